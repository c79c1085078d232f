"""The ready streams of sample corpora, cut small: every arm learns every task."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from limpet.forgetting.stream.stream_file import read_stream
from limpet.home import Home


@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.parametrize("name", ["five-topics", "eight-topics"])
def test_every_arm_of_a_ready_stream_learns_every_task(
    home: Home, session_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # where the wheels of the corpora are
    monkeypatch.setenv("LIMPET_CACHE", str(session_cache))
    source = {key: value for key, value in read_stream(Path(name)).source.items() if key not in ("base", "orders")}
    source["tasks"] = [{**task, "train_size": 60, "eval_size": 40} for task in source["tasks"]]
    source |= {"seeds": [0], "training": {"epochs": 1, "max_length": 16, "batch_size": 16, "dtype": "float32"}}
    (tmp_path / "stream.yaml").write_text(yaml.safe_dump(source), encoding="utf-8")
    report, _ = home.stream.run(tmp_path / "stream.yaml")
    count = len(source["tasks"])
    assert [len(arm.matrix) for arm in report.arms] == [count] * 8
    assert all(cell is not None for arm in report.arms for row in arm.matrix for cell in row)
    assert all(arm.metrics["fwt_gem"] is not None for arm in report.arms if arm.name != "frozen")
    assert all(arm.metrics["intransigence"] is not None for arm in report.arms if arm.name != "joint")
