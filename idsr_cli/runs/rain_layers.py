"""What was taken out of each photograph, as pictures beside the results: the removed rain, and masks of where it was.

Both have the photograph's stored pixel grid and the name of the photograph with `.png` appended: `a/x.jpg.png`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from idsr_cli.runs.frames import clip_settings, frames_naming, is_clip_item
from idsr_cli.runs.outputs import Made
from idsr_cli.runs.plan import Item, Naming
from idsr_cli.runs.process import Write
from idsr_cli.runs.request import Request
from idsr_cli.runs.stamps import Stamps

if TYPE_CHECKING:
    import numpy as np

    from idsr_cli.images.photo import Photo
    from idsr_cli.restoration import Restored
    from idsr_cli.weights import WeightsPair

# (photograph (H, W, 3) float32 RGB in [0, 1], what networks made of it) -> a picture, uint8, (H, W) or (H, W, 3).
Picture = Callable[["np.ndarray", "Sequence[Restored]"], "np.ndarray"]


def removed_rain(rgb: np.ndarray, views: Sequence[Restored]) -> np.ndarray:
    """The light that the first network took out, (H, W, 3) uint8 RGB: max(0, x - y) in grey levels (0..255).

    Black where nothing was taken out, and where rain was darker than what is behind it.
    """
    import numpy as np

    return np.rint(255.0 * np.clip(rgb - views[0].rgb, 0.0, 1.0)).astype(np.uint8)


def dry_mask(threshold: float) -> Picture:
    """Masks as COLMAP reads them: (H, W) uint8, 0 where a network changed a channel by `threshold` levels, else 255."""

    def mask(rgb: np.ndarray, views: Sequence[Restored]) -> np.ndarray:
        import numpy as np

        from idsr_cli.rain_estimate import removed_per_pixel

        dry = np.full(rgb.shape[:2], 255, np.uint8)
        for view in views:
            dry[removed_per_pixel(rgb, view.rgb) * 255.0 >= threshold] = 0
        return dry

    return mask


class LayerOutput:
    """Pictures of what was taken out, one for each photograph or frame; an `Output`.

    Args:
        kind: name of the output, "removed" or "rain-mask".
        roles: the networks whose results are compared with the photograph, "D", "G" or "DG".
        request: what was asked for; its `output` is where the pictures go.
        pair: the weights.
        write: writes a picture.
        picture: makes it.
        settings: what decides the pictures besides the weights, as JSON values.
        every, fps: which frames of clips.
    """

    masked = False
    resumes = True

    def __init__(
        self,
        kind: str,
        roles: str,
        request: Request,
        pair: WeightsPair,
        write: Write,
        picture: Picture,
        settings: Mapping[str, Any],
        *,
        every: int = 1,
        fps: float | None = None,
    ) -> None:
        self.kind = kind
        self.roles = "".join(dict.fromkeys(roles))
        # Of a frame 000000.png, COLMAP looks for the mask 000000.png.png.
        self.suffix = ".png.png" if kind == "rain-mask" else ".png"
        self.stamps = Stamps(None, {})
        self._request = request
        self._write = write
        self._picture = picture
        members = {"D": pair.dprnet, "G": pair.ggirnet}
        self._settings = {"weights": [members[role].identity for role in self.roles], **settings}
        self._frames = every, fps

    def plan(self) -> list[Item]:
        photos = Naming(lambda path: path.with_name(f"{path.name}.png"), frozenset({".png"}), makes_photos=True)
        naming = frames_naming(photos)
        items = self._request.plan(naming)
        clips = clip_settings(items, *self._frames)
        self.stamps = self._request.stamps(
            naming, self.kind, self._settings, lambda item: clips if is_clip_item(item) else {}
        )
        return self.stamps.check(items)

    def accept(self, item: Item, photo: Photo) -> None:
        pass

    def write(self, item: Item, made: Made) -> tuple[str, ...]:
        import cv2
        import numpy as np

        picture = self._picture(made.photo.visible, [made.views[role] for role in self.roles])
        bgr = np.ascontiguousarray(picture[..., ::-1]) if picture.ndim == 3 else picture
        self._write(item.target, cv2.imencode(".png", bgr)[1].tobytes())
        return ()

    def written(self, item: Item, keypoints: int) -> None:
        pass

    def finish(self, items: Sequence[Item]) -> None:
        pass
