"""Training logs (`log.jsonl` of `idsr train`) as charts: SVG for the report, PNG beside the log."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

from idsr_cli.errors import UsageError
from idsr_cli.evaluation.charts import Line, line_chart
from idsr_cli.files.atomic import write_bytes


@dataclass(frozen=True)
class TrainingLog:
    """Curves from the log of a training run.

    Attributes:
        name: the file as given.
        losses: "loss" and each of its terms.
        validation: recovered keypoints, of all pairs and by group; may be empty.
    """

    name: str
    losses: list[Line]
    validation: list[Line]

    def charts(self) -> list[tuple[str, list[Line]]]:
        """Each chart as (SVG, its lines for the legend)."""
        shown = []
        if self.losses:
            chart = line_chart(self.losses, "step", "mean loss, logarithmic", logarithmic=True)
            shown.append((chart, self.losses))
        if self.validation:
            shown.append((line_chart(self.validation, "step", "recovered keypoints"), self.validation))
        return shown


def read_log(path: Path) -> TrainingLog:
    """Read a log.

    Raises:
        UsageError: it cannot be read, or is not the log of a training run.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("cannot be read", path=path, hint="give the log.jsonl of a training run") from error
    losses: dict[str, tuple[list[float], list[float]]] = {}
    scores: dict[str, tuple[list[float], list[float]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            record = json.loads(line)
            step = float(record["step"])
            terms = {"loss": record["loss"], **record["terms"]} if "loss" in record else {}
            true = {name: value for name, value in record.get("validation", {}).items() if name.startswith("true")}
            for table, values in ((losses, terms), (scores, true)):
                for name, value in values.items():
                    steps, found = table.setdefault(name, ([], []))
                    steps.append(step)
                    found.append(float(value))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"line {number} is no report of a training run", path=path,
                             hint="give the log.jsonl of a training run") from error  # fmt: skip
    if not any(value > 0 for _, values in (*losses.values(), *scores.values()) for value in values):
        raise UsageError("reports no loss", path=path, hint="give the log.jsonl of a training run")
    return TrainingLog(str(path), _lines(losses), _lines(scores))


def _lines(table: dict[str, tuple[list[float], list[float]]]) -> list[Line]:
    return [Line(name, x, y, k % 8 + 1) for k, (name, (x, y)) in enumerate(table.items())]


def draw_log(folder: Path) -> Path | None:
    """Draw `loss.png` from `log.jsonl`, both in `folder`. None without a log (a short run has none) or matplotlib.

    Raises:
        UsageError: the log cannot be read, or is not the log of a training run.
    """
    if not (folder / "log.jsonl").exists():
        return None
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    log = read_log(folder / "log.jsonl")
    both = ("mean loss per report", log.losses), ("recovered keypoints", log.validation)
    charts = [(label, lines) for label, lines in both if lines]
    figure, axes = plt.subplots(len(charts), 1, figsize=(8, 3.2 * len(charts)), squeeze=False, sharex=True)
    for (label, lines), axis in zip(charts, axes[:, 0], strict=True):
        for line in lines:
            axis.plot(line.x, line.y, label=line.label, linewidth=1.2, marker="o" if lines is log.validation else None)
        axis.set(ylabel=label, **({"yscale": "log"} if lines is log.losses else {"ylim": (0, None)}))
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("step")
    figure.tight_layout()
    data = io.BytesIO()
    figure.savefig(data, dpi=130)
    plt.close(figure)
    write_bytes(folder / "loss.png", data.getvalue())
    return folder / "loss.png"
