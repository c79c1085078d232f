"""The dtype that is trained in: chosen by the processor, and told where it is slow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from limpet.home import Home
from limpet.training.base import precision
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
