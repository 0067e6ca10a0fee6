"""Turn two finished training runs into a weights folder: float16, provenance, splice, dry threshold, manifest.

    python benchmarks/publish_weights.py run-d/last.safetensors run-g/last.safetensors weights/base \
        --splice DG --dry-threshold 2.5
"""

from __future__ import annotations

import argparse
from pathlib import Path

from command_line import plain_errors

from idsr_cli.weights import ROLE_FILES, SPLICES, find_weights, save_weights, write_manifest


@plain_errors()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dprnet", type=Path)
    parser.add_argument("ggirnet", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splice", choices=SPLICES, default="DG")
    parser.add_argument("--dry-threshold", type=float, default=0.0, help="grey levels, see restoration.rain_level")
    parser.add_argument("--rain-floor", type=float, default=0.0, help="grey levels, see restoration.leave_dry_pixels")
    options = parser.parse_args()
    for role, file in ROLE_FILES.items():
        weights = getattr(find_weights(str(getattr(options, role))), role)
        metadata = {
            **weights.metadata,
            "idsr.arch": role,
            "idsr.splice": options.splice,
            "idsr.dry_threshold": str(options.dry_threshold),
            "idsr.rain_floor": str(options.rain_floor),
            "idsr.licence": "Apache-2.0; trained on research data, see the model card",
        }
        save_weights(options.folder / file, weights.build(), metadata, half=True)
    write_manifest(options.folder)
    pair = find_weights(str(options.folder))
    print(f"{options.folder}: splice {pair.splice}, sha256 {pair.sha256}")


if __name__ == "__main__":
    main()
