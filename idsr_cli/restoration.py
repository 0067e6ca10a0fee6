"""Remove the rain from a photograph, or find that there is none.

`RestorationOptions` holds the weights, roles and device; it can be pickled, and its `build` loads the networks into a
`Restorer`. A `Restorer` turns a photograph upright, runs the networks, returns the photograph unchanged if it counts as
dry, and restores the original value of pixels in which the network saw next to no rain. `Removal` says how much of the
rain is taken out, from which photographs, and at which size the networks look at them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from idsr_cli.arguments import flag, number, whole_number
from idsr_cli.errors import DeviceError, ItemError, UsageError
from idsr_cli.kept_pixels import leave_crowded_places, leave_dry_pixels, leave_the_sky, leave_what_runs_across
from idsr_cli.rain_estimate import (
    RAINY_PIXEL,
    Rain,
    bands,
    part_levels,
    rain_level,
    rainy_share,
    runs_one_way,
    streak_angle,
)
from idsr_cli.views import Contrasted, Enlarged, OnItsSide, View, enlarged, reduced, without_resized

if TYPE_CHECKING:
    from idsr_cli.images.photo import Photo
    from idsr_cli.inference import TiledNetwork
    from idsr_cli.runtime.runner import Runner
    from idsr_cli.weights import Weights, WeightsPair

# How an image is looked at: image -> the network's result for it, (H, W, 3) float32, a new array.
_Method = Callable[[np.ndarray], np.ndarray]
# Side of the centre crop that a second look tries first, pixels.
_CENTRE = 256
# Rain covers the whole photograph. What a network sees in less than half of the 4x4 parts is more likely surf, a fence
# or a fountain, however much it is there.
_HALF = 0.5
# In the centre crop a second look may see this share of what it must see in the whole image: people hide rain there.
_CENTRE_GAIN = 0.4

# How the network looked at a photograph when it saw the rain that is taken out, see `RainRemover`; "dry" = it saw none.
Look = Literal[
    "dry", "upright", "rotated", "contrasted", "magnified", "enlarged", "reduced", "reduced_contrasted", "third"
]  # fmt: skip
_REDUCED_LOOKS = ("reduced", "reduced_contrasted", "third")


class Restored:
    """One network's result for a photograph.

    What no network is needed for may be done later, see `later`.

    Attributes:
        rgb: (H, W, 3) float32 RGB in [0, 1]; the photograph's own pixels, bit for bit, if no rain was seen.
        rain_seen: whether the network saw rain and changed the photograph.
        rain: how much it saw, measured before the dry test and the rain floor; None = no network ran.
        look: how it looked at the photograph.
    """

    def __init__(self, rgb: np.ndarray, rain_seen: bool, rain: Rain | None = None, look: Look = "upright") -> None:
        self.rain_seen, self.look = rain_seen, look
        self._lock = threading.Lock()
        self._finish: Callable[[], tuple[np.ndarray, Rain | None]] | None = None
        self._finished: tuple[np.ndarray, Rain | None] | None = (rgb, rain)

    @classmethod
    def later(
        cls, rain_seen: bool, finish: Callable[[], tuple[np.ndarray, Rain | None]], look: Look = "upright"
    ) -> Restored:
        """A result whose `rgb` and `rain` are what `finish` returns.

        It is called once, in the first thread that asks for one of them. In a run over many photographs that is a
        worker thread, and the networks go on with the next photograph meanwhile.
        """
        result = cls.__new__(cls)
        result.rain_seen, result.look = rain_seen, look
        result._lock = threading.Lock()
        result._finish, result._finished = finish, None
        return result

    @property
    def rgb(self) -> np.ndarray:
        return self._result()[0]

    @property
    def rain(self) -> Rain | None:
        return self._result()[1]

    def _result(self) -> tuple[np.ndarray, Rain | None]:
        with self._lock:
            if self._finished is None:
                assert self._finish is not None
                self._finished = self._finish()
                self._finish = None  # and with it the images that it needed
            return self._finished

    def __reduce__(self) -> tuple[Any, ...]:
        return Restored, (self.rgb, self.rain_seen, self.rain, self.look)


def most_rain(views: Iterable[Restored]) -> Rain | None:
    """The rain of a photograph that several networks have restored: that of the one which saw most of it."""
    seen = [view.rain for view in views if view.rain is not None]
    return max(seen, key=lambda rain: rain.level, default=None)


@dataclass(frozen=True)
class _SecondLook:
    """When a second look at an image replaces the first.

    Attributes:
        centre, parts: share of the 4x4 parts, of the centre crop and of the whole image, in which it must see rain.
            A centre of None: the look is so cheap that the crop is not tried first.
        gain: it must see at least this many times the rain of the first look.
        level: rain in a part, grey levels; the dry threshold if that is larger.
        most: rain in a part, grey levels; if it sees more in any, it is rejected.
        side: of the centre crop, pixels.
        centre_gain: in the crop this share of `gain` is enough.
        final_gain: at least this many times as much must be taken out in the end as by the look so far.
        one_way: what it sees must be streaks that run the same way, and nearer to upright than to level.
        slant: so many degrees from upright at least must they run.
        most_parts: as `parts`, but it must not see rain in more of them.
    """

    centre: float | None
    parts: float
    gain: float
    level: float
    most: float = math.inf
    side: int = _CENTRE
    centre_gain: float = _CENTRE_GAIN
    final_gain: float = 0.0
    one_way: bool = False
    slant: float = 0.0
    most_parts: float = 1.0

    def easier(self, same: bool) -> _SecondLook:
        """With less asked for, if the frame before was looked at in the `same` way; at least one part."""
        if not same:
            return self
        centre = None if self.centre is None else max(self.centre - _STEADY, 1 / 16)
        gain, final_gain = 0.8 * self.gain, 0.8 * self.final_gain
        parts, most_parts = max(self.parts - _STEADY, 1 / 16), self.most_parts + _STEADY
        return replace(self, centre=centre, parts=parts, most_parts=most_parts, gain=gain, final_gain=final_gain)

    def accepts(
        self, levels: Sequence[float], rainy: np.ndarray, restored: np.ndarray, first: np.ndarray, threshold: float
    ) -> bool:
        """Whether this look at an image, whose result is `restored`, replaces the `first` one.

        `levels`: `part_levels` of it. `threshold`: of the dry test.
        """
        return (
            self.parts <= rainy_share(levels, max(self.level, threshold)) <= self.most_parts
            and max(levels) <= self.most
            and rain_level(rainy, restored) >= self.gain * rain_level(rainy, first)
            and (not self.one_way or runs_one_way(rainy, restored))
            and (not self.slant or abs(streak_angle(rainy, restored)) >= self.slant)
        )


# Half of the rain is enough on the side, because the first look may have removed lines of the scene too. The first look
# sees streaks that fall. If this one sees others, that is high grass.
_ON_ITS_SIDE = _SecondLook(centre=0.55, parts=0.6, gain=0.5, level=RAINY_PIXEL, slant=30.0)
# There may be people in the centre, and none of the rain before them. If this look sees only a little more than the
# first one, that is scene and not rain.
_CONTRASTED = _SecondLook(centre=0.12, parts=0.5, gain=2.0, level=0.42)
# At twice the size networks take grain and fine texture for rain, in nearly all parts of some dry photographs. So only
# photographs in which rain was seen before have this look, and what it sees must be plain.
_ENLARGED = _SecondLook(centre=0.65, parts=0.8, gain=1.5, level=6.0)
# At one and a half times the size fainter rain is seen, but leaves are taken for rain too. So much more must be taken
# out in the end than by the look so far. Glints on a road stay, and do not count.
_MAGNIFIED = _SecondLook(centre=0.5, parts=0.8, gain=1.5, level=4.0, final_gain=3.0)
# At half the size, wide soft streaks are as narrow as those that networks know best. Where fine ones are there too, the
# full size sees more.
_REDUCED = _SecondLook(centre=None, parts=0.5, gain=1.2, level=RAINY_PIXEL)
# In a photograph with a longer side than this all streaks may be wide, also where rain is seen everywhere. A crop of
# twice the side is as large as others once it is reduced.
_LARGE, _REDUCED_LARGE = 1024, replace(_REDUCED, centre=0.5, side=2 * _CENTRE, centre_gain=0.9)
# Where the full size sees no rain. A few near drops do not fall in all parts of a photograph; strong rain would have
# been seen before, so what seems strong is a meadow or waves.
_REDUCED_ALONE = _SecondLook(centre=None, parts=3 / 16, gain=0.0, level=1.5, most=12.0)
# Where half the size sees too little for that, but at least this much in some part, grey levels, twice the contrast
# decides. Fewer parts are enough then, if all drops fall the same way: what else it sees in dry photographs does not.
_TRACE, _REDUCED_CONTRASTED = 0.23, replace(_REDUCED_ALONE, parts=2 / 16, level=0.4, one_way=True)
# A third of the size is for drops that are wider still.
_THIRD = replace(_REDUCED_ALONE, one_way=True)
# Streaks that are finer stay after a look at half the size. They are taken out of its result at full size, if they are
# of this level, grey levels, in half of the parts: marks on clothes, which that look leaves alone, are not everywhere.
_REST = 1.0
# Rain falls everywhere. Where it is seen in fewer of the 4x4 parts than this, some may be too fine, faint or wide.
_EVERYWHERE = 0.75
# Of a few near drops, which fall in few parts and all the same way, half the size leaves less than the full size does,
# even where it takes out no more. What it sees everywhere is cloth, or rain that the full size knows better.
_REDUCED_SPARSE = replace(_REDUCED_ALONE, gain=0.98, one_way=True, most_parts=_EVERYWHERE)
# A frame of a clip keeps the look of the frame before it with rain in two parts fewer than a photograph needs for it.
# Near a limit every other frame would have another look otherwise, and streaks would come and go.
_STEADY = 0.125


@dataclass(frozen=True)
class Removal:
    """How rain is taken out.

    Attributes:
        strength: share of the rain that is taken out, 0 to 1.5: the result is x - strength * (x - y) for a photograph
            x and the network's result y. 0 only measures; above 1 overcorrects.
        force: also change photographs that seem dry.
        scale: the networks see the photograph enlarged by this factor, 1, 1.5 or 2, and the rain they see in it is
            reduced to the photograph's size and subtracted. Helps with streaks thinner than a pixel, and takes
            scale² times the time. "auto" is 1, and further looks if rain is seen in part of the photograph only or
            nowhere, or if it is large, see `RainRemover`.
        dry_threshold: of the dry test, grey levels, see `RainRemover`; None = that of the weights. It brings the test
            to weights without one, such as checkpoints of others. 0 = no test, neither of photographs nor of places,
            see `leave_crowded_places`, and one look.
        mirror: the networks also see a photograph in which they saw rain mirrored left to right, and what is taken out
            is the mean of both. Twice the time for such photographs; the others take as long as before.

    Raises:
        UsageError: a value out of range.
    """

    strength: float = 1.0
    force: bool = False
    scale: float | Literal["auto"] = "auto"
    dry_threshold: float | None = None
    mirror: bool = False

    def __post_init__(self) -> None:
        strength = number("strength", self.strength)
        if not 0.0 <= strength <= 1.5:
            raise UsageError(f"strength must be from 0 to 1.5, not {strength:g}")
        scale = self.scale
        if isinstance(scale, str) and scale == "auto":
            pass
        elif isinstance(scale, str) or number("scale", scale) not in (1.0, 1.5, 2.0):
            raise UsageError(f"scale is auto, 1, 1.5 or 2, not {scale!r}")
        else:
            scale = float(scale)
        threshold = self.dry_threshold
        if threshold is not None:
            threshold = number("dry_threshold", threshold)
            if not 0.0 <= threshold <= 255.0:
                raise UsageError(f"dry_threshold must be from 0 to 255 grey levels, not {threshold:g}")
        switches = {name: flag(name, getattr(self, name)) for name in ("force", "mirror")}
        for name, value in {"strength": strength, "scale": scale, "dry_threshold": threshold, **switches}.items():
            object.__setattr__(self, name, value)

    def changed(self) -> dict[str, Any]:
        """The values that are not the defaults, by name, for records."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}


@dataclass(frozen=True)
class RestorationOptions:
    """Which networks to load, where they run and what is done with their results. Can be sent to another process.

    Attributes:
        pair: the weights.
        roles: the networks to load: "D" (DPRNet), "G" (GGIRNet) or "DG"; repeats are allowed.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        tile: side of a tile in pixels, 0 = never tile, None = from memory.
        removal: how rain is taken out.
        engine: what runs the networks: "torch", "ncnn", or "auto", see `runtime.engines.load`; large photographs are
            then left to torch, see `TiledNetwork`. ncnn runs on a CPU, also if the device is "auto".

    Raises:
        UsageError: unknown roles or none, or a tile that is no such number.
    """

    pair: WeightsPair
    roles: str
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    removal: Removal = Removal()
    engine: str = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.roles, str) or not self.roles or set(self.roles) - set("DG"):
            raise UsageError(f"roles must be letters of D and G, not {self.roles!r}", hint="such as D or DG")
        object.__setattr__(self, "device", str(self.device))
        if self.tile is not None:
            meant = "a number of pixels, 0 or None"
            object.__setattr__(self, "tile", whole_number("tile", self.tile, meant))
            if self.tile < 0:
                raise UsageError(f"tile must be {meant}, not {self.tile}")

    def build(self) -> Restorer:
        """Load the networks.

        Raises:
            WeightsError: a file is damaged or of an unknown layout.
            DeviceError: the device, precision or engine is not available.
        """
        return Restorer(self)


class Restorer:
    """The networks of some `RestorationOptions`, loaded. A network that plays both roles is loaded and run only once.

    Args:
        options: which networks.
        load: loads one network from (weights, device, precision, tile, engine); None = `load_network`.

    Attributes:
        device: where the networks run: "cpu", "cuda", "cuda:1", "mps".
        precision: floating-point type of their computation: "fp32", "bf16" or "fp16".
        on_progress: called with the share (0..1) of a photograph that is done, for large photographs.
        on_smaller: called with the new side, pixels, when tiles had to be made smaller because memory ran out.
    """

    def __init__(
        self,
        options: RestorationOptions,
        load: Callable[[Weights, str, str, int | None, str], RainRemover] | None = None,
    ) -> None:
        from idsr_cli.runtime.devices import device_name
        from idsr_cli.runtime.engines import check_engine
        from idsr_cli.runtime.precision import choose_precision

        check_engine(options.engine)
        on_cpu = options.engine == "ncnn" and options.device == "auto"
        self.device = device_name("cpu" if on_cpu else options.device)
        self.precision = choose_precision(options.precision, self.device)
        self.on_progress: Callable[[float], object] = lambda share: None
        self.on_smaller: Callable[[int], object] = lambda side: None
        self._removal = options.removal
        members = {"D": options.pair.dprnet, "G": options.pair.ggirnet}
        # Role -> the role under which its network is loaded. They differ if one file plays both roles.
        self._player: dict[str, str] = {}
        for role in dict.fromkeys(options.roles):
            same = (other for other in self._player if members[other].identity == members[role].identity)
            self._player[role] = next(same, role)

        def loaded() -> dict[str, RainRemover]:
            return {
                role: (load or load_network)(members[role], self.device, self.precision, options.tile, options.engine)
                for role in dict.fromkeys(self._player.values())
            }

        try:
            self._networks = loaded()
        except DeviceError:  # a network of another project that only works in float32
            if options.precision != "auto":
                raise
            self.precision = "fp32"
            self._networks = loaded()

    @property
    def engine(self) -> str:
        """What runs the networks: "torch" or "ncnn", or "ncnn,torch" if each runs some photographs, or a network."""
        from idsr_cli.runtime.engines import together

        return together(network.engine for network in self._networks.values())

    @property
    def remarks(self) -> list[str]:
        """Why ncnn, the faster engine on a CPU, does not run a network; a line each."""
        remarks = (network.remark for network in self._networks.values())
        return list(dict.fromkeys(filter(None, remarks)))

    def restore(self, rgb: np.ndarray, roles: str, before: dict[str, Look] | None = None) -> list[Restored]:
        """Run the networks on an upright image.

        Args:
            rgb: (H, W, 3) float32 RGB in [0, 1].
            roles: letters among those of the options, such as "D" or "DG".
            before: for frames of a clip, how each network looked at the frame before, so that it goes on in the same
                way where both would do. Changed in place; empty for the first frame. None = not a frame.

        Returns:
            One result per letter; letters that stand for the same network share one result.

        Raises:
            ItemError: no such array, out of memory, or a network gives values that are not finite.
            UsageError: a network that is not loaded.
        """
        players = self._players(roles)
        _check_image(rgb)
        results = {}
        for i, player in enumerate(players):
            network = self._networks[player]
            network.on_progress = partial(self._tell, i, len(players))
            network.on_smaller = self._smaller
            if before is None:
                results[player] = network(rgb, self._removal)
            else:
                results[player] = network(rgb, self._removal, before.get(player))
                before[player] = results[player].look
        return [results[self._player[role]] for role in roles]

    def restore_photo(self, photo: Photo, roles: str, before: dict[str, Look] | None = None) -> list[Restored]:
        """Run the networks on a photograph; the results are on its stored pixel grid.

        The networks get the photograph turned upright by its EXIF orientation, because they are trained on rain that
        falls down. In the stored grid of a photograph taken with a turned camera it runs sideways. Colours under full
        transparency are replaced by the nearest visible ones (`Photo.visible`).

        Args:
            photo: as read.
            roles: as for `restore`.
            before: as for `restore`.

        Returns:
            As `restore`, on the stored grid.

        Raises:
            ItemError, UsageError: as for `restore`.
        """
        from idsr_cli.images.photo import apply_orientation, undo_orientation

        players = self._players(roles)
        turned = np.ascontiguousarray(apply_orientation(photo.visible, photo.orientation))

        def on_stored_grid(upright: Restored) -> tuple[np.ndarray, Rain | None]:
            if not upright.rain_seen:
                return photo.visible, upright.rain
            return np.ascontiguousarray(undo_orientation(upright.rgb, photo.orientation)), upright.rain

        results = zip(players, self.restore(turned, "".join(players), before), strict=True)
        stored = {
            player: Restored.later(upright.rain_seen, partial(on_stored_grid, upright), upright.look)
            for player, upright in results
        }
        return [stored[self._player[role]] for role in roles]

    def _tell(self, network: int, networks: int, share: float) -> None:
        self.on_progress((network + share) / networks)

    def _players(self, roles: str) -> list[str]:
        """The networks that play these roles, each once."""
        if not isinstance(roles, str) or not roles or set(roles) - set(self._player):
            raise UsageError(f"roles must be letters of those loaded, {''.join(self._player)}, not {roles!r}")
        return list(dict.fromkeys(self._player[role] for role in roles))

    def _smaller(self, side: int) -> None:
        """Limit the tiles of all networks, after one of them ran out of memory."""
        for network in self._networks.values():
            network.limit_tile(side)
        self.on_smaller(side)


def _check_image(rgb: np.ndarray) -> None:
    """Raises ItemError unless it is (H, W, 3) float32 in [0, 1]."""
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.float32 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        found = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise ItemError(
            f"need RGB pixels as an (H, W, 3) float32 array in [0, 1], not {found}",
            hint="`idsr_cli.derain` takes other arrays",
        )
    if not (rgb.min() >= 0 and rgb.max() <= 1):  # NaN is neither
        raise ItemError("an array of floats has values outside [0, 1]", hint="divide it by its range, such as 255")


def load_network(
    weights: Weights, device: str = "cpu", precision: str = "fp32", tile: int | None = None, engine: str = "auto"
) -> RainRemover:
    """Load one network. torch is imported only if it runs the network, or if ncnn runs it for the first time.

    Args:
        weights: the network's weights.
        device: from `runtime.devices.device_name`.
        precision: from `runtime.precision.choose_precision`.
        tile: side of a tile in pixels, 0 = never tile, None = from memory.
        engine: one of `runtime.engines.ENGINES`.

    Raises:
        WeightsError: the file is damaged or of an unknown layout.
        DeviceError: the network does not work in this type, or on this engine.
    """
    from idsr_cli.inference import TiledNetwork
    from idsr_cli.runtime import engines

    runner = engines.kept(weights.identity, device, precision, engine) or _built(weights, device, precision, engine)
    by_torch = partial(_built, weights, device, precision, "torch")
    large = by_torch if engine == "auto" and runner.engine == "ncnn" else None
    return RainRemover(TiledNetwork(runner, tile, large), weights.dry_threshold, weights.rain_floor)


def _built(weights: Weights, device: str, precision: str, engine: str) -> Runner:
    """The runner of a network that has to be built from its weights; arguments and errors as for `load_network`."""
    import torch

    from idsr_cli.networks.spandrel_models import Restorer as Foreign
    from idsr_cli.runtime import engines
    from idsr_cli.runtime.torch_engine import DTYPES

    network, dtype = weights.build(), DTYPES[precision]
    if isinstance(network, Foreign) and dtype not in network.precisions:
        raise DeviceError(f"{network.name} does not work in {precision}", hint="use the precision `fp32`")
    return engines.load(network, weights.layout(), torch.device(device), dtype, engine, weights.identity)


class RainRemover:
    """One network, and the tests that decide which parts of its result are used.

    Args:
        network: runs on images of any size.
        dry_threshold: rain, grey levels, that must be seen in half of an image, or it counts as dry, see `seems_dry`;
            a `Removal` may have another.
            If it is above 0, images that seem dry, or whose streaks are nearer to horizontal than to vertical, are also
            tried rotated by 90 degrees. With the scale "auto", images with rain in less than three quarters of their
            4x4 parts are also tried with twice the local contrast and at half their size; if they seem dry even so, at
            a third of their size and at half of it with twice the contrast; if they do not, at twice their size, and
            with up to 1024 pixels a side at one and a half times their size. Images with a longer side are always
            tried at half their size.
            Places that seem too rainy keep their values, see `leave_crowded_places`, and so do what is as bright as a
            white sky and what runs across the rain, see `leave_the_sky` and `leave_what_runs_across`. 0 switches all
            of it off.
        rain_floor: estimated rain, grey levels, below which a pixel keeps its value, see `leave_dry_pixels`; 0 = off.
    """

    def __init__(self, network: TiledNetwork, dry_threshold: float = 0.0, rain_floor: float = 0.0) -> None:
        self.network = network
        self.dry_threshold, self.rain_floor = dry_threshold, rain_floor
        self.on_progress: Callable[[float], object] = lambda share: None
        self.on_smaller: Callable[[int], object] = lambda side: None
        # The lambdas look the listeners up at each call, so that a caller can replace them between runs.
        network.on_progress = lambda share: self.on_progress(share)
        network.on_smaller = lambda side: self.on_smaller(side)

    @property
    def engine(self) -> str:
        """What runs the network: "torch" or "ncnn", or "ncnn,torch" if torch runs large photographs."""
        return self.network.engine

    @property
    def remark(self) -> str:
        """Why ncnn, the faster engine on a CPU, does not run it, in words; or ""."""
        return self.network.runner.remark

    def __call__(self, rgb: np.ndarray, removal: Removal = Removal(), before: Look | None = None) -> Restored:
        """(H, W, 3) float32 RGB in [0, 1], upright -> the derained image, same shape, float32, clipped to [0, 1].

        `before`: for a frame of a clip, how the frame before was looked at. The same look is used again with less
        evidence than a photograph needs for it; None = a photograph, or the first frame.

        Raises:
            ItemError: it does not fit in memory even in small tiles, or the network's numbers overflow.
        """
        threshold = self.dry_threshold if removal.dry_threshold is None else removal.dry_threshold
        restored, look = self._estimate(rgb, removal.scale, threshold, before)
        if look in _REDUCED_LOOKS:  # here, because the results of the looks before it are no longer in memory
            restored = self._without_rest(restored)
        dry = look == "dry" and not removal.force
        if removal.mirror and not dry:
            mirrored = np.ascontiguousarray(rgb[:, ::-1])
            _average(restored, self._looked(mirrored, look, removal.scale)[:, ::-1])
        return Restored.later(
            not dry, partial(self._finished, rgb, restored, dry, removal.strength, places=threshold > 0), look
        )

    def _finished(
        self, rgb: np.ndarray, restored: np.ndarray, dry: bool, strength: float, places: bool
    ) -> tuple[np.ndarray, Rain | None]:
        """What is left to do without the network: the image, made of `restored` in place, and its rain."""
        rain = Rain.measured(rgb, restored, dry)
        if dry:
            return rgb, rain
        if places:
            _leave_the_scene(rgb, restored)
        if self.rain_floor:
            leave_dry_pixels(rgb, restored, self.rain_floor)
        np.clip(restored, 0.0, 1.0, out=restored)
        if strength != 1.0:
            mix(rgb, restored, strength)
        return restored, rain

    def _estimate(
        self, rgb: np.ndarray, scale: float | Literal["auto"], threshold: float, before: Look | None
    ) -> tuple[np.ndarray, Look]:
        """The look that is used, as `_look` gives it, and its name; "dry" by the `threshold`.

        Of a reduced look it is `_coarse`: what is left of finer streaks is not yet out.
        """
        first = _first_scale(scale)
        restored = self._look(rgb, first)
        if not threshold:
            return restored, "upright"
        levels = part_levels(rgb, restored)
        dry = seems_dry(levels, threshold, _HALF - _STEADY * (before not in (None, "dry")))
        if dry or before == "rotated" or abs(streak_angle(rgb, restored)) > 45.0:
            rotated = self._rotated(rgb, restored, first, _ON_ITS_SIDE.easier(before == "rotated"), threshold)
            if rotated is not None:
                return rotated, "rotated"
        seen: Look = "dry" if dry else "upright"
        return (restored, seen) if scale != "auto" else self._closer(rgb, restored, seen, levels, threshold, before)

    def _closer(
        self,
        rgb: np.ndarray,
        first: np.ndarray,
        seen: Look,
        levels: list[float],
        threshold: float,
        before: Look | None,
    ) -> tuple[np.ndarray, Look]:
        """Further looks, if some of the rain may be too faint, too wide or too fine; else the first one, as `seen`.

        Args:
            rgb: the image.
            first: the network's result for it.
            seen: "upright", or "dry" if that is so.
            levels: `part_levels` of the first look.
            threshold: of the dry test.
            before: the look at the frame before.
        """
        best, look = first, seen
        closer = before in ("contrasted", "magnified", "enlarged", *_REDUCED_LOOKS)
        large = max(rgb.shape[:2]) > _LARGE
        doubtful = seen == "dry" or rainy_share(levels, RAINY_PIXEL) < _EVERYWHERE + _STEADY * closer
        if not doubtful:
            accepted = _REDUCED_LARGE.easier(before == "reduced")
            reduced = self._second_look(rgb, first, self._coarse, accepted, threshold) if large else None
            return (first, seen) if reduced is None else (reduced, "reduced")
        accepted = _CONTRASTED.easier(closer)
        if seen == "dry":  # nothing of the first look is used, so there is no rain to do better than
            accepted = replace(accepted, gain=0.0)
        contrasted = self._second_look(rgb, first, self._contrasted, accepted, threshold)
        if contrasted is not None:
            best, look = contrasted, "contrasted"
        if look == "dry":
            return self._reduced_alone(rgb, first, threshold, before)
        coarse = self._coarse(rgb)
        coarse_levels = part_levels(rgb, coarse)
        choices = (choice.easier(before == "reduced") for choice in (_REDUCED, _REDUCED_SPARSE))
        if any(choice.accepts(coarse_levels, rgb, coarse, best, threshold) for choice in choices):
            return coarse, "reduced"
        larger = self._second_look(rgb, first, self._enlarged, _ENLARGED.easier(before == "enlarged"), threshold)
        if larger is not None:
            return larger, "enlarged"
        if not large:  # enlarged as a whole, which takes memory
            accepted = _MAGNIFIED.easier(before == "magnified")
            larger = self._second_look(rgb, first, self._magnified, accepted, threshold)
            if larger is not None:
                least = accepted.final_gain * _level_taken_out(rgb, best)
                if _level_taken_out(rgb, larger) >= least:
                    return larger, "magnified"
        return best, look

    def _reduced_alone(
        self, rgb: np.ndarray, first: np.ndarray, threshold: float, before: Look | None
    ) -> tuple[np.ndarray, Look]:
        """The looks at a half and a third of the size where the full size sees no rain; `first` if they see none.

        Arguments and result are as for `_closer`.
        """
        coarse = self._coarse(rgb)
        levels = part_levels(rgb, coarse)
        if _REDUCED_ALONE.easier(before == "reduced").accepts(levels, rgb, coarse, first, threshold):
            return coarse, "reduced"
        third = self._coarse(rgb, times=3)
        if _THIRD.easier(before == "third").accepts(part_levels(rgb, third), rgb, third, first, threshold):
            return third, "third"
        if not _TRACE <= max(levels) <= _REDUCED_ALONE.most:
            return first, "dry"
        contrasted = self._coarse_contrasted(rgb)
        same, levels = before in _REDUCED_LOOKS, part_levels(rgb, contrasted)
        if not _REDUCED_CONTRASTED.easier(same).accepts(levels, rgb, contrasted, first, threshold):
            return first, "dry"
        plain = before == "reduced" if same else rain_level(rgb, coarse) > rain_level(rgb, contrasted)
        return (coarse, "reduced") if plain else (contrasted, "reduced_contrasted")

    def _looked(self, rgb: np.ndarray, look: Look, scale: float | Literal["auto"]) -> np.ndarray:
        """The network's result for an image in the look of this name, a new array, not clipped."""
        first = _first_scale(scale)
        upright = partial(self._look, scale=first)
        methods: dict[Look, _Method] = {
            "dry": upright,
            "upright": upright,
            "rotated": partial(self._on_its_side, scale=first),
            "contrasted": self._contrasted,
            "magnified": self._magnified,
            "enlarged": self._enlarged,
            "reduced": self._reduced,
            "reduced_contrasted": self._reduced_contrasted,
            "third": self._third,
        }
        return methods[look](rgb)

    def _look(self, rgb: np.ndarray, scale: float) -> np.ndarray:
        """The network's result for an image, a new array, not clipped.

        At another scale than 1 the rain that it sees in the enlarged image is reduced and subtracted, as in `Enlarged`.
        """
        if scale == 1.0:
            return self.network(rgb)
        if scale == 2.0:
            return self._enlarged(rgb)
        large = enlarged(rgb, (round(rgb.shape[0] * scale), round(rgb.shape[1] * scale)))
        large -= self.network(large)
        return without_resized(rgb, large)

    def _enlarged(self, rgb: np.ndarray) -> np.ndarray:
        """`_look` at twice the size, for streaks that are too thin."""
        return self.network(rgb, Enlarged)

    def _magnified(self, rgb: np.ndarray) -> np.ndarray:
        """`_look` at one and a half times the size, for streaks that are thin and faint; takes 2.25 times as long."""
        return self._look(rgb, 1.5)

    def _reduced(self, rgb: np.ndarray) -> np.ndarray:
        """`_look` at half the size, for streaks that are too wide, and at full size at what is left of finer ones."""
        return self._without_rest(self._coarse(rgb))

    def _reduced_contrasted(self, rgb: np.ndarray) -> np.ndarray:
        """As `_reduced`, with twice the local contrast at half the size."""
        return self._without_rest(self._coarse_contrasted(rgb))

    def _third(self, rgb: np.ndarray) -> np.ndarray:
        """As `_reduced`, at a third of the size."""
        return self._without_rest(self._coarse(rgb, times=3))

    def _coarse(self, rgb: np.ndarray, view: type[View] = View, times: int = 2) -> np.ndarray:
        """`_look` at 1/`times` of the size, in a fraction of the time. The network gets the small image in a `view`."""
        small = reduced(rgb, times)
        small -= self.network(small, view)
        return without_resized(rgb, small)

    def _coarse_contrasted(self, rgb: np.ndarray) -> np.ndarray:
        return self._coarse(rgb, Contrasted)

    def _without_rest(self, coarse: np.ndarray) -> np.ndarray:
        """The result at half the size, or what the network makes of it at full size if much rain is left in it."""
        np.clip(coarse, 0.0, 1.0, out=coarse)
        fine = self.network(coarse)
        return coarse if seems_dry(part_levels(coarse, fine), _REST) else fine

    def _contrasted(self, rgb: np.ndarray) -> np.ndarray:
        """`_look` with twice the local contrast, for streaks that are too faint."""
        return self.network(rgb, Contrasted)

    def _on_its_side(self, rgb: np.ndarray, scale: float) -> np.ndarray:
        """`_look` at the image rotated by 90 degrees, turned back."""
        if scale == 1.0:
            return self.network(rgb, OnItsSide)
        turned = self._look(np.ascontiguousarray(np.rot90(rgb)), scale)
        return np.ascontiguousarray(np.rot90(turned, -1))

    def limit_tile(self, side: int) -> None:
        """Use tiles of at most `side` pixels from now on."""
        self.network.tile = min(self.network.tile or side, side)

    def _rotated(
        self, rgb: np.ndarray, upright: np.ndarray, scale: float, accepted: _SecondLook, threshold: float
    ) -> np.ndarray | None:
        """The network's result for the image rotated by 90 degrees, turned back; None if it is rejected.

        Networks are trained on rain that falls down. They leave streaks that run nearly horizontally, as in a storm or
        when a turned camera did not record its orientation. Pavement and water seen at a slant show horizontal lines
        too, but not in most parts of a photograph.
        """
        return self._second_look(rgb, upright, partial(self._on_its_side, scale=scale), accepted, threshold)

    def _second_look(
        self, rgb: np.ndarray, first: np.ndarray, look: _Method, accepted: _SecondLook, threshold: float
    ) -> np.ndarray | None:
        """Another look at the image; None if it is rejected.

        The centre crop is tried first: if it is rejected, the network need not run on the whole image.

        Args:
            rgb: the image.
            first: the network's result for it.
            look: image or crop -> the network's result, of the same shape.
            accepted: when it is accepted.
            threshold: of the dry test.
        """
        longest = max(rgb.shape[:2])
        # A small photograph is its own centre crop.
        shares = {} if accepted.centre is None else {min(accepted.side, longest): accepted.centre}
        for side, parts in (shares | {longest: accepted.parts}).items():
            top, left = (max(0, length - side) // 2 for length in rgb.shape[:2])
            part = slice(top, top + side), slice(left, left + side)
            rainy = np.ascontiguousarray(rgb[part])
            restored = look(rainy)
            gain = accepted.gain * (accepted.centre_gain if side < longest else 1.0)
            levels = part_levels(rainy, restored)
            if not replace(accepted, parts=parts, gain=gain).accepts(levels, rainy, restored, first[part], threshold):
                return None
        return restored


def seems_dry(levels: Sequence[float], threshold: float, parts: float = _HALF) -> bool:
    """True if an image, given its `part_levels`, counts as dry: fewer than 8 of its 16 parts reach `threshold`.

    `parts` is another share than a half.
    """
    return rainy_share(levels, threshold) < parts


def _leave_the_scene(rgb: np.ndarray, restored: np.ndarray) -> None:
    """`restored` keeps, in place, what of the image is taken for rain in places and is none."""
    leave_crowded_places(rgb, restored)
    leave_the_sky(rgb, restored)
    leave_what_runs_across(rgb, restored)


def _level_taken_out(rgb: np.ndarray, restored: np.ndarray) -> float:
    """`rain_level` of what is taken out in the end, if `restored` is the network's result."""
    kept = restored.copy()
    _leave_the_scene(rgb, kept)
    return rain_level(rgb, kept)


def _first_scale(scale: float | Literal["auto"]) -> float:
    """At which scale an image is looked at first."""
    return 1.0 if scale == "auto" else scale


def _average(restored: np.ndarray, other: np.ndarray) -> None:
    """`restored` becomes the mean of both, (H, W, 3) float32, in place."""
    restored += other
    restored *= np.float32(0.5)


def mix(rainy: np.ndarray, restored: np.ndarray, strength: float) -> None:
    """Take out a share of the rain only: `restored` becomes x - strength * (x - restored), clipped to [0, 1], in place.

    Pixels in which both images agree keep their value bit for bit. Both are (H, W, 3) float32; `rainy` is x.
    """
    for x, y in bands(rainy, restored):  # to save the memory of a second copy
        np.clip(x - np.float32(strength) * (x - y), 0.0, 1.0, out=y)
