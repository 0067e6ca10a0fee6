"""The networks that idsr knows. A new network is one new file and one line here."""

from __future__ import annotations

from idsr_cli.networks import mdn, qsnet, released, sian, unet
from idsr_cli.networks.layout import Layout

# Name of the layout, as stored in weights files -> its record.
LAYOUTS: dict[str, Layout] = {
    "unet": unet.LAYOUT,
    "released": released.LAYOUT,
    "sian": sian.LAYOUT,
    "qsnet": qsnet.LAYOUT,
    "mdn": mdn.LAYOUT,
}
