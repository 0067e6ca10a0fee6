"""A run with one or several outputs for each photograph: the networks run once, and every output is written from that.

An `Output` is one kind of file: keypoints in one format, derained photographs. It plans its own files, knows which of
them exist and with which settings they were made, and writes them. `Outputs` holds those of a run. It joins their plans
into one item per photograph, and what exists already is neither computed nor written again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from idsr_cli.errors import ItemError
from idsr_cli.files.faults import failure
from idsr_cli.runs.batch import Result, Saved, Stages
from idsr_cli.runs.masks import Masks
from idsr_cli.runs.plan import Item, check_apart
from idsr_cli.runs.process import load_photo
from idsr_cli.runs.stamps import Stamps

if TYPE_CHECKING:
    import numpy as np
    import torch

    from idsr_cli.extraction import GreyOptions
    from idsr_cli.features import SiftOptions
    from idsr_cli.images.photo import Photo
    from idsr_cli.keypoints import Keypoints
    from idsr_cli.rain_estimate import Rain
    from idsr_cli.restoration import Look, Restored, Restorer
    from idsr_cli.runs.contact_sheet.thumbnails import Detail, Thumbnails


SomeOutput = TypeVar("SomeOutput", bound="Planned")


@dataclass(frozen=True)
class Made:
    """One photograph, and what has been made of it. One thread at a time.

    Attributes:
        photo: as read.
        mask: (H, W) bool, True where keypoints may be; None = everywhere.
        views: by role, "D" or "G", what that network made of it; empty if no network ran.
        device: where SIFT runs.
        counts: how many keypoints were written, by kind of output.
    """

    photo: Photo
    mask: np.ndarray | None
    views: Mapping[str, Restored]
    device: torch.device | str = "cpu"
    counts: dict[str, int] = field(default_factory=dict)
    _keypoints: dict[tuple[SiftOptions, GreyOptions, str], Keypoints] = field(default_factory=dict)

    @property
    def derained(self) -> bool | None:
        """True if a network saw rain; None if none ran."""
        return any(view.rain_seen for view in self.views.values()) if self.views else None

    def rain(self, roles: str) -> Rain | None:
        """How much rain was seen by those of these networks that ran; None if none did."""
        from idsr_cli.restoration import most_rain

        return most_rain(view for role, view in self.views.items() if role in roles)

    @property
    def keypoint_count(self) -> int | None:
        """Number of keypoints, if any output has asked for them; for several settings, that of the first."""
        return next((len(keypoints) for keypoints in self._keypoints.values()), None)

    def detection_view(self, splice: str) -> Restored:
        """The photograph in which a splice detects keypoints; for the splice "" as it is."""
        from idsr_cli.extraction import unrestored

        return self.views[splice[0]] if splice else unrestored(self.photo.visible)

    def keypoints(self, options: SiftOptions, grey: GreyOptions, splice: str) -> Keypoints:
        """Keypoints with descriptors of kind sift_u8; computed once for outputs of equal settings.

        Args:
            options: settings of SIFT.
            grey: how it gets its grey image.
            splice: "DG", "DD" or "GG"; "" = of the photograph as it is.

        Raises:
            ItemError: a number is NaN or infinite.
        """
        from idsr_cli.extraction import extract

        if (options, grey, splice) not in self._keypoints:
            views = [self.views[role] for role in splice] or [self.detection_view("")]
            keypoints = extract(views, options, grey=grey, mask=self.mask, device=self.device)
            keypoints.check_finite()
            self._keypoints[options, grey, splice] = keypoints
        return self._keypoints[options, grey, splice]

    def thumbnails(self, detail: Detail) -> Thumbnails | None:
        """Small pictures for a contact sheet, with the keypoints of the first settings; None if they fail.

        If a network changed the photograph, its keypoints as it is are computed for comparison.
        """
        from idsr_cli.runs.contact_sheet.thumbnails import make

        with suppress(Exception):  # the outputs are written, and stay so, whether or not they can be shown
            options, grey, splice = next(iter(self._keypoints), (None, None, next(iter(self.views), "")))
            view = self.detection_view(splice) if self.views else None
            after = before = None
            if options is not None and grey is not None:
                after = self.keypoints(options, grey, splice)
                before = self.keypoints(options, grey, "") if self.derained else after
            return make(self.photo, detail, view.rgb if view else None, before, after)
        return None


class Planned(Protocol):
    """One kind of file that a run writes for each photograph: its plan and its end.

    Attributes:
        kind: its name for the user, "npz" or "derained"; different for each output of a run.
        stamps: the record of its folder; set by `plan`.
    """

    @property
    def kind(self) -> str: ...
    @property
    def stamps(self) -> Stamps: ...

    def plan(self) -> list[Item]:
        """Each photograph and this output of it, with what is done, stale or known to fail.

        Raises:
            UsageError: nothing can be started.
        """

    def finish(self, items: Sequence[Item]) -> None:
        """All photographs are done, or the run was interrupted."""


class Output(Planned, Protocol):
    """One kind of file that a run writes for each photograph, from what the networks make of it.

    Attributes:
        roles: the networks that it is made with: "", "D", "G" or "DG".
        masked: its content depends on the mask of the photograph.
        suffix: of the files that the frames of a clip become.
        resumes: frames of an interrupted run are kept, if they were made with the same settings.
    """

    @property
    def roles(self) -> str: ...
    @property
    def masked(self) -> bool: ...
    @property
    def suffix(self) -> str: ...
    @property
    def resumes(self) -> bool: ...

    def accept(self, item: Item, photo: Photo) -> None:
        """Refuse a photograph that cannot be written, before the networks run. Worker thread.

        Raises:
            ItemError: it cannot.
        """

    def write(self, item: Item, made: Made) -> tuple[str, ...]:
        """Write the output of a photograph or frame. Worker thread.

        Returns:
            Kinds of metadata that the photograph has and this output has not.
        """

    def written(self, item: Item, keypoints: int) -> None:
        """Another process has written the output of a photograph, with so many keypoints (0 if it holds none)."""


class ClipOutput(Output, Protocol):
    """An output that makes a clip of a clip.

    Attributes:
        crf: quality of the clips, 0..51.
    """

    @property
    def crf(self) -> int: ...

    def frame(self, made: Made) -> np.ndarray | None:
        """The picture of a frame in the clip that its clip becomes: (H, W, 3) float32 RGB in [0, 1].

        None = the frame as it is stored.
        """


class SomeOutputsFailed(ItemError):
    """Some outputs of a photograph are missing; the others are written.

    Attributes:
        failures: kind of the output -> reason.
    """

    def __init__(self, failures: Mapping[str, str], hint: str = "") -> None:
        super().__init__("; ".join(f"{kind}: {reason}" for kind, reason in failures.items()), hint=hint)
        self.failures = dict(failures)


def combine(outputs: Sequence[Item]) -> Item:
    """The item of a photograph or frame from its items for each output.

    It is done if all of them are. If the rest of them are known to fail, so does it.
    """
    if len(outputs) == 1:
        return outputs[0]
    waiting = any(item.waits for item in outputs)
    problem = "" if waiting else next((item.problem for item in outputs if item.problem), "")
    done = not waiting and not problem
    stale = "; ".join(dict.fromkeys(item.stale for item in outputs if item.stale)) if done else ""
    return replace(outputs[0], done=done, stale=stale, problem=problem, outputs=tuple(outputs))


class Outputs(Generic[SomeOutput]):
    """The outputs of a run."""

    def __init__(self, outputs: Sequence[SomeOutput]) -> None:
        self._outputs = {output.kind: output for output in outputs}

    @property
    def each(self) -> list[SomeOutput]:
        """The outputs."""
        return list(self._outputs.values())

    def plan(self) -> list[Item]:
        """Each photograph with all its outputs.

        Raises:
            UsageError: nothing can be started, or two outputs get in each other's way.
        """
        plans = [[replace(item, kind=output.kind) for item in output.plan()] for output in self._outputs.values()]
        self.claim(make=False)
        if len(plans) > 1:
            check_apart(plans)
        return [combine(outputs) for outputs in zip(*plans, strict=True)]

    def claim(self, make: bool = True) -> None:
        """Make sure that the shards that share an output have the same settings, see `Stamps.claim`."""
        for output in self._outputs.values():
            output.stamps.claim(make)

    def waiting(self, item: Item) -> list[tuple[SomeOutput, Item]]:
        """The outputs of a photograph that are to be written."""
        return [(self._outputs[one.kind], one) for one in item.each_output if one.waits]

    def finishes(self, items: Sequence[Item]) -> list[Callable[[], None]]:
        """For each output, what is to be done at the end of the run."""

        def finish(output: SomeOutput) -> None:
            output.stamps.flush()
            output.finish([one for item in items for one in item.each_output if one.kind == output.kind])

        return [lambda output=output: finish(output) for output in self._outputs.values()]  # type: ignore[misc]


def needed_roles(outputs: Outputs[Output], items: Sequence[Item]) -> str:
    """The networks that the outputs of these items need: "", "D", "G" or "DG"."""
    needed = {role for item in items for output, _ in outputs.waiting(item) for role in output.roles}
    return "".join(sorted(needed))


def take_note(outputs: Outputs[Output], result: Result) -> None:
    """Tell the outputs of a photograph what another process has written of it."""
    failed: Collection[str] = ()
    if isinstance(result.error, SomeOutputsFailed):
        failed = result.error.failures
    elif result.error is not None:
        return
    counts = result.saved.counts if result.saved else {}
    for output, one in outputs.waiting(result.item):
        if one.kind not in failed:
            output.written(one, counts.get(one.kind, 0))


def write_each(item: Item, writers: Sequence[tuple[Callable[[Item], tuple[str, ...]], Item]]) -> tuple[str, ...]:
    """Write the outputs of an item. A failure of one does not keep the others from being written.

    Args:
        item: a photograph or frame.
        writers: for each output to write, what writes it, and its item.

    Returns:
        Kinds of metadata that were lost, all together.

    Raises:
        SomeOutputsFailed: some outputs failed, now or in the plan; if it is the only one, its own error.
    """
    dropped: dict[str, None] = {}
    errors: dict[str, Exception] = {}
    for write, one in writers:
        try:
            dropped.update(dict.fromkeys(write(one)))
        except Exception as error:  # any failure of one output: the others go on
            errors[one.kind] = error
    if errors and not item.outputs:
        raise next(iter(errors.values()))
    told = {kind: failure(error, item.name) for kind, error in errors.items()}
    reasons = {one.kind: one.problem for one in item.outputs if one.problem}
    reasons |= {kind: error.reason for kind, error in told.items()}
    if reasons:
        hint = next((error.hint for error in told.values()), "")
        cause = next(iter(told.values()), None)
        raise SomeOutputsFailed(reasons, hint) from (cause and (cause.__cause__ or cause))
    return tuple(dropped)


# --- the work --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """A photograph in memory, and its mask: (H, W) bool or None."""

    photo: Photo
    mask: np.ndarray | None

    @property
    def pixels(self) -> int:
        """Number of pixels of the photograph."""
        return self.photo.width * self.photo.height


@dataclass(frozen=True)
class PhotoWork:
    """What every photograph of a run has in common.

    Attributes:
        outputs: what is written of it.
        restorer: the networks; None if none run.
        masks: where masks are, or None.
        detail: how much of each photograph a contact sheet shows; None = there is none.
        before: for the frames of one clip, see `Restorer.restore`; None = photographs.
    """

    outputs: Outputs[Output]
    restorer: Restorer | None
    masks: Masks | None = None
    detail: Detail | None = None
    before: dict[str, Look] | None = None

    @property
    def stages(self) -> Stages[Loaded, Made]:
        """The work as stages of a batch."""
        look = self.look if self.detail else None
        return Stages(self.load, self.compute, self.save, pixels=lambda loaded: loaded.pixels, look=look)

    def look(self, item: Item) -> Thumbnails | None:
        """Small pictures of a photograph that is skipped, with its derained version if that is an output."""
        from idsr_cli.images.photo import read_photo
        from idsr_cli.runs.contact_sheet.thumbnails import make

        if item.source is None or self.detail is None:
            return None
        photo = load_photo(item)
        derained = next((one.target for one in item.each_output if one.kind == "derained"), None)
        restored = None if derained is None else read_photo(derained).visible
        return make(photo, self.detail, restored)

    def load(self, item: Item) -> Loaded:
        """Read the photograph and its mask."""
        return self.accept(item, load_photo(item), item.relative)

    def accept(self, item: Item, photo: Photo, relative: PurePath) -> Loaded:
        """The photograph with the mask for this path below the input folder, if every output can be written."""
        masked = False
        for output, one in self.outputs.waiting(item):
            output.accept(one, photo)
            masked = masked or output.masked
        mask = self.masks.read(relative, photo.width, photo.height) if self.masks and masked else None
        return Loaded(photo, mask)

    def compute(self, item: Item, loaded: Loaded) -> Made:
        """Run the networks that the outputs need."""
        roles = needed_roles(self.outputs, [item])
        if self.restorer is None or not roles:
            return Made(loaded.photo, loaded.mask, {}, self.restorer.device if self.restorer else "cpu")
        views = self.restorer.restore_photo(loaded.photo, roles, self.before)
        return Made(loaded.photo, loaded.mask, dict(zip(roles, views, strict=True)), self.restorer.device)

    def save(self, item: Item, made: Made) -> Saved:
        """Write the outputs, each with a line in the record of its folder."""

        def writer(output: Output) -> Callable[[Item], tuple[str, ...]]:
            def write(one: Item) -> tuple[str, ...]:
                with output.stamps.recording(one) as line:
                    dropped = output.write(one, made)
                    line.update(rain_record(made.rain(output.roles)))
                return dropped

            return write

        dropped = write_each(item, [(writer(output), one) for output, one in self.outputs.waiting(item)])
        return saved(made, dropped, self.detail)


def saved(made: Made, dropped: tuple[str, ...] = (), detail: Detail | None = None) -> Saved:
    """What is reported of a photograph or frame; with small pictures of it if `detail` is given."""
    return Saved(
        made.photo.width,
        made.photo.height,
        made.keypoint_count,
        derained=made.derained,
        dropped=dropped,
        rain=made.rain("DG"),
        thumbnails=made.thumbnails(detail) if detail else None,
        counts=made.counts,
    )


def rain_record(rain: Rain | None) -> dict[str, Any]:
    """What the record of an output folder says of the rain; nothing if no network ran."""
    return {} if rain is None else {"rain": rain.record()}
