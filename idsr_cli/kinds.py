"""The kinds of network, by the names that users type: for lists and `--help`, which must not load torch.

`networks.LAYOUTS` has the networks themselves; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

IDSR = 'Wu, Chang and Li, "See SIFT in a Rain", IEEE TCSVT 2023'


@dataclass(frozen=True)
class Kind:
    """What `idsr train NAME` trains, and whose checkpoints `--weights` takes.

    Attributes:
        does: what it is for, in a few words.
        paper: where it was published.
        presets: its shapes, values of `--preset`; the first is the default.
    """

    does: str
    paper: str
    presets: tuple[str, ...]


# The name of a role of IDSR's pair, or of the layout of a network that plays both roles -> its kind.
KINDS: dict[str, Kind] = {
    "dprnet": Kind("where keypoints are", IDSR, ("base", "released")),
    "ggirnet": Kind("what they look like", IDSR, ("base", "released")),
    "sian": Kind(
        "both, in six stages",
        'Pang et al., "Scale-space Invariant Attention", arXiv 2006.05049',
        ("sian", "sian-paper"),
    ),
    "qsnet": Kind(
        "both, fast",
        'Wang et al., "Intrinsic Rainy Image Priors ...", arXiv 1911.10810',
        ("qsnet", "qsnet-half"),
    ),
    "mdn": Kind(
        "both, with --real on unlabelled rain",
        'Qiu et al., "... semi-supervised learning", J. Comp. Appl. 42(5) 2022',
        ("mdn",),
    ),
}
