from __future__ import annotations

import pytest

from limpet.first_few import first_few


@pytest.mark.parametrize(
    ("count", "named"),
    [(0, ""), (1, "0"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and 1 more"), (12, "0, 1, 2, 3, 4 and 7 more")],
)
def test_what_is_not_named_is_counted(count: int, named: str) -> None:
    assert first_few(map(str, range(count))) == named


def test_as_many_are_named_as_there_is_room_for() -> None:
    assert first_few(["q_proj", "k_proj", "v_proj"], 2, joint="+") == "q_proj+k_proj and 1 more"
