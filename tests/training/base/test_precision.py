"""The dtype that is trained in: chosen by the processor, and told where it is slow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from limpet.errors import UsageError
from limpet.home import Home, init
from limpet.training.base import precision
from tests.tiny import tiny_base, tiny_csv
from tests.training.learning.test_learn import QUICK, StopAt, staged


class Notes(StopAt):
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(step=-1)
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize(
    ("in_hardware", "dtype", "told"),
    [
        (False, "bfloat16", [precision.EMULATED]),
        (False, "float32", []),
        (False, "auto", []),
        (True, "bfloat16", []),
    ],
)
def test_bfloat16_that_nothing_multiplies_in_hardware_is_told_of(
    home: Home, monkeypatch: pytest.MonkeyPatch, in_hardware: bool, dtype: str, told: list[str]
) -> None:
    monkeypatch.setattr(precision, "bf16_is_fast", lambda: in_hardware)
    notes = Notes()
    staged(home, settings=replace(QUICK, epochs=1, dtype=dtype), progress=notes)
    assert notes.told == told


def test_what_overflows_in_bfloat16_is_computed_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bf16_is_fast", lambda: True)
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    base = tiny_base(tmp_path / "base", "deberta-v2")
    home = init(tmp_path / "home", base=str(base), mlflow="off")
    home.task.add("place", f"csv:{tiny_csv(tmp_path / 'place.csv')}", max_length=16)
    version = home.train("place", replace(QUICK, epochs=1)).version
    assert (version.config["training"]["dtype"], home.backbone().evaluation_dtype) == ("float32", "float32")
    with pytest.raises(UsageError, match="overflow in bfloat16"):
        home.train("place", replace(QUICK, dtype="bfloat16"))
