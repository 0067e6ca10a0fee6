"""The networks that idsr knows: a new one is its file and one line here."""

from __future__ import annotations

from idsr_cli.networks import released, unet
from idsr_cli.networks.layout import Layout

# By the name that a weights file states as its layout.
LAYOUTS: dict[str, Layout] = {
    "unet": unet.LAYOUT,
    "released": released.LAYOUT,
}
