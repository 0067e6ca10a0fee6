"""Training logs as charts."""

import json
from pathlib import Path

import pytest

from idsr_cli.errors import UsageError
from idsr_cli.evaluation.curves import read_log


def test_a_log(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    records = [{"step": 10 * k, "loss": 1 / k, "terms": {"pixel": 0.5 / k}} for k in range(1, 5)]
    records[3]["validation"] = {"true": 300.0, "true:light": 400.0, "psnr": 30.0}
    records.append({"step": 50, "validation": {"true": 310.0, "true:light": 420.0}})
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    log = read_log(file)
    assert [(line.label, list(line.x)) for line in log.losses] == [
        ("loss", [10, 20, 30, 40]),
        ("pixel", [10, 20, 30, 40]),
    ]
    assert [(line.label, list(line.y)) for line in log.validation] == [("true", [300, 310]), ("true:light", [400, 420])]
    assert len(log.charts()) == 2
    file.write_text(json.dumps(records[-1]))  # a run that ended before its first report of a loss
    assert [len(lines) for _, lines in read_log(file).charts()] == [2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json\n", "line 1 is no report"),
        ('{"step": 1, "loss": 1, "terms": {}}\n[]\n', "line 2 is no report"),
        ('{"step": 1, "loss": "x", "terms": {}}\n', "line 1 is no report"),
        ('{"step": 1}\n', "reports no loss"),
        ("", "reports no loss"),
    ],
)
def test_files_that_are_not_logs(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(text)
    with pytest.raises(UsageError, match=reason) as caught:
        read_log(file)
    assert caught.value.path == str(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_log(tmp_path / "nothing")
