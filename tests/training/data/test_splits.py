from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.training.data.splits import allocate, draw, room


def test_shares_follow_the_counts_by_largest_remainder() -> None:
    assert allocate({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert allocate({"a": 47, "b": 33, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert allocate({"a": 1, "b": 1, "c": 1}, 2) == {"a": 1, "b": 1, "c": 0}


def test_a_rare_stratum_gives_at_least_one_where_size_allows() -> None:
    assert allocate({"a": 980, "b": 10, "c": 10}, 10) == {"a": 8, "b": 1, "c": 1}
    assert allocate({"a": 980, "b": 10, "c": 10}, 2) == {"a": 2, "b": 0, "c": 0}


def test_no_stratum_gives_its_last_ones() -> None:
    assert allocate({"a": 8, "b": 1}, 7, keep=1) == {"a": 7, "b": 0}


def test_more_than_there_is_can_not_be_drawn() -> None:
    with pytest.raises(ValueError, match="can't be drawn"):
        allocate({"a": 3, "b": 3}, 5, keep=1)


counts = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.integers(1, 60), min_size=1, max_size=8)


@given(counts=counts, share=st.floats(0, 1), keep=st.integers(0, 2))
def test_allocation_is_whole_within_limits_and_near_proportional(
    counts: dict[str, int], share: float, keep: int
) -> None:
    limits = {label: max(0, count - keep) for label, count in counts.items()}
    size = int(share * sum(limits.values()))
    given = allocate(counts, size, keep)
    assert sum(given.values()) == size
    assert all(0 <= given[label] <= limits[label] for label in counts)
    if size >= sum(limit > 0 for limit in limits.values()):
        assert all(given[label] >= 1 for label in counts if limits[label])
    if keep == 0 and all(size * count >= sum(counts.values()) for count in counts.values()):
        assert all(abs(given[label] - size * count / sum(counts.values())) < 1 for label, count in counts.items())


@given(
    strata=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_draws_are_distinct_stratified_and_repeatable(strata: list[str], share: float, seed: int) -> None:
    places = list(range(len(strata)))[::-1]
    size = int(share * len(strata))
    drawn = draw(strata, places, size, seed=(seed, 0))
    assert drawn == draw(strata, places, size, seed=(seed, 0))
    assert len(set(drawn)) == size
    assert Counter(strata[at] for at in drawn) == Counter(
        {label: n for label, n in allocate(Counter(strata), size).items() if n}
    )


def test_seed_and_number_of_the_draw_change_which_are_drawn_and_their_order() -> None:
    strata = ["a", "b"] * 100
    places = list(range(200))
    drawn = [tuple(draw(strata, places, 50, seed=seed)) for seed in ((0, 0), (0, 1), (1, 0))]
    assert len(set(drawn)) == 3
    everything = draw(strata, places, 200, seed=(0, 0))
    assert sorted(everything) == places
    assert everything != places


def test_a_known_seed_draws_known_places() -> None:
    # the same on every machine and numpy version, or every data digest would change
    assert draw(list("aabbaabb"), list(range(8)), 4, seed=(7, 1)) == [4, 2, 1, 3]


def test_room_is_what_may_be_drawn() -> None:
    assert room(list("aaab"), [0, 1, 2, 3], keep=1) == 2
    assert room(list("aaab"), [0, 3], keep=0) == 2
