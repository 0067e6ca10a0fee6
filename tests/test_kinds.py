"""The names that users type stand for networks that there are, and no network is left out."""

import pytest

from idsr_cli import networks
from idsr_cli.kinds import KINDS
from idsr_cli.networks import LAYOUTS, ROLES
from idsr_cli.training.loop import RECIPES
from idsr_cli.training.objectives import ALL_LOSSES, OBJECTIVES
from idsr_cli.training.setup import RECIPE_DEFAULTS


def test_every_network_has_its_kind() -> None:
    own = {name for name, layout in LAYOUTS.items() if layout.presets and not layout.attentions}
    assert set(KINDS) == {*ROLES, *own}
    for name, kind in KINDS.items():
        layouts = [layout for layout in LAYOUTS.values() if layout.attentions] if name in ROLES else [LAYOUTS[name]]
        assert set(kind.presets) == {preset for layout in layouts for preset in layout.presets}


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_what_a_record_says_about_training_exists(name: str) -> None:
    layout = LAYOUTS[name]
    assert layout.objective in OBJECTIVES
    assert layout.recipe in RECIPES
    assert layout.recipe in RECIPE_DEFAULTS
    assert set(layout.losses) <= set(ALL_LOSSES)
    assert not layout.matching or layout.shallow is not None
    if layout.presets:
        assert bool(layout.losses) != bool(layout.attentions)  # the losses of IDSR's pair depend on the role
    for preset in layout.presets:
        assert networks.preset(preset, "dprnet")[0] == name
