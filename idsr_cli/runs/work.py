"""What a run does with each photograph, as one value that any process can start from: this one, or a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from idsr_cli.runs.batch import Stages
from idsr_cli.runs.frames import ClipWork
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.masks import Masks
from idsr_cli.runs.outputs import Output, Outputs, PhotoWork
from idsr_cli.runs.request import Request
from idsr_cli.runs.sift import KeypointOutput

if TYPE_CHECKING:
    from idsr_cli.restoration import RestorationOptions, Restorer
    from idsr_cli.runs.contact_sheet.thumbnails import Detail


@dataclass(frozen=True)
class Work:
    """The work of `idsr derain` and `idsr sift`. Holds no networks, so it can be sent to another process.

    Attributes:
        outputs: what is written of each photograph.
        networks: which networks it takes, or None.
        request: what was asked for.
        tile: side of a tile in pixels, 0 = never tile, None = from memory.
        masks: where masks are, or None.
        detail: how much of each photograph a contact sheet shows; None = there is none.
        every, fps: which frames of clips.
    """

    outputs: Outputs[Output]
    networks: RestorationOptions | None
    request: Request
    tile: int | None = None
    masks: Masks | None = None
    detail: Detail | None = None
    every: int = 1
    fps: float | None = None

    def stages(self, restorer: Restorer | None, listener: Listener) -> Stages[Any, Any]:
        """The work as stages of a batch in this process.

        Args:
            restorer: `networks`, loaded.
            listener: hears of the frames of clips.
        """
        for output in self.outputs.each:
            if isinstance(output, KeypointOutput):
                output.meta = output.settings.run_meta(restorer, self.tile)
        photos = PhotoWork(self.outputs, restorer, self.masks, self.detail)
        return ClipWork(photos, self.request, listener, self.every, self.fps).stages
