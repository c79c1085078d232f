"""A revision keeps what was evaluated on where it is, takes corrections and new rows, and lets nothing leak."""

from __future__ import annotations

import itertools
import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limpet.errors import DataError, NotFoundError, UsageError
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.batching.examples import Text, flat_text
from limpet.training.data.build_task import add_task
from limpet.training.data.description.removed import left_out
from limpet.training.data.duplicates import Shingles, normalise
from limpet.training.data.revise_task import RevisionRequest, plain_rows, revise_task
from limpet.training.data.task_request import TaskRequest

COLUMNS = {
    "classification": ("text", "label"),
    "multi-label": ("text", "labels"),
    "regression": ("text", "target"),
    "token-classification": ("words", "tags"),
    "generation": ("input", "output"),
}
LABELLED = ("classification", "multi-label", "token-classification")
LABELS = ("bread", "milk", "wine")
WORDS_PER_TEXT = 12
Rows = list[tuple[list[str], str]]
"""Texts as words, each with the name of what is right."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))


def some_rows(number: int, start: int = 0, labels: Sequence[str] = LABELS) -> Rows:
    """Rows no word of which occurs in another."""
    return [(words_of(start + at), labels[at % len(labels)]) for at in range(number)]


def words_of(number: int) -> list[str]:
    return [f"w{WORDS_PER_TEXT * number + place}" for place in range(WORDS_PER_TEXT)]


def resembling(words: Sequence[str], number: int) -> list[str]:
    """A near duplicate: the last word is another."""
    return [*words[:-1], f"other{number}"]


def target_of(kind: str, label: str) -> Any:
    """What a type has for a label: its name, a list, a number, tags or an answer."""
    return {
        "classification": label,
        "multi-label": [label],
        "regression": float(len(label) + ord(label[0])),
        "token-classification": [f"B-{label}", *["O"] * (WORDS_PER_TEXT - 1)],
        "generation": f"buy {label}",
    }[kind]


@dataclass
class Shop:
    """A task of some type in a store, and what it is revised by."""

    store: Store
    folder: Path
    kind: str
    name: str = "shop"

    def spec(self, rows: Rows, evaluation: Rows | None = None) -> str:
        parts = [f"train={self._write('train', rows)}"]
        parts += [f"eval={self._write('eval', evaluation)}"] if evaluation is not None else []
        return f"jsonl:{','.join(parts)}"

    def _write(self, part: str, rows: Rows) -> Path:
        text, target = COLUMNS[self.kind]
        tokens = self.kind == "token-classification"
        lines = [
            {text: words if tokens else " ".join(words), target: target_of(self.kind, label)} for words, label in rows
        ]
        path = next(path for path in map(self._path, itertools.count(), itertools.repeat(part)) if not path.exists())
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    def _path(self, number: int, part: str) -> Path:
        return self.folder / f"{self.name}-{part}-{number}.jsonl"

    def add(self, rows: Rows, evaluation: Rows | None = None) -> TaskRecord:
        text, target = COLUMNS[self.kind]
        request = TaskRequest(
            self.name, self.spec(rows, evaluation), type=self.kind, text_column=text, target_column=target
        )
        return add_task(self.store, request)

    def revise(self, rows: Rows, evaluation: Rows | None = None, **options: Any) -> TaskRecord:
        return revise_task(self.store, RevisionRequest(self.name, self.spec(rows, evaluation), **options))

    def split(self, task: TaskRecord, name: str) -> list[tuple[Text, Hashable]]:
        return plain_rows(self.store, task, task.split(name))

    def texts(self, task: TaskRecord, name: str) -> list[str]:
        return [normalise(flat_text(text)) for text, _ in self.split(task, name)]

    def plain(self, label: str) -> Hashable:
        target = target_of(self.kind, label)
        return tuple(target) if isinstance(target, list) else target

    def rows_in(self, task: TaskRecord, name: str) -> Rows:
        """The rows of a split as they were given."""
        label_of = {self.plain(label): label for label in (*LABELS, "salt")}
        return [(flat_text(text).split(), label_of[target]) for text, target in self.split(task, name)]


@pytest.fixture(params=list(COLUMNS))
def shop(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Shop:
    """A shop for each type of task."""
    return Shop(store, tmp_path, request.param)


@pytest.fixture
def labels_shop(store: Store, tmp_path: Path) -> Shop:
    """A shop of classification."""
    return Shop(store, tmp_path, "classification")


def another(label: str) -> str:
    return LABELS[(LABELS.index(label) + 1) % len(LABELS)]


def test_old_rows_stay_in_their_places_where_rows_are_added_and_corrected(shop: Shop) -> None:
    first = shop.add(some_rows(60))
    wrong = [shop.rows_in(first, split)[2] for split in ("train", "validation", "evaluation")]
    corrections = [(words, another(label)) for words, label in wrong]
    second = shop.revise([*corrections, *some_rows(30, start=60, labels=(*LABELS, "salt"))])
    assert second.revision == 2
    assert [part.name for part in second.evaluation_parts] == ["evaluation", "evaluation-r2"]
    for split, (words, label) in zip(("train", "validation", "evaluation"), corrections, strict=True):
        before, now = shop.rows_in(first, split), shop.rows_in(second, split)
        before[2] = (words, label)
        assert now[: len(before)] == before
    assert len(shop.split(second, "evaluation")) == len(shop.split(first, "evaluation"))
    counts = second.checks["revision"]
    assert counts["corrected"] == {"train": 1, "validation": 1, "evaluation": 1}
    assert sum(counts["added"].values()) == 30
    assert (counts["unchanged"], counts["not_given"]) == (0, 57)
    if shop.kind in LABELLED:
        assert second.labels[: len(first.labels)] == first.labels
        assert [label.removeprefix("B-") for label in second.labels[len(first.labels) :]] == ["salt"]


def test_the_same_data_again_changes_nothing(shop: Shop) -> None:
    rows = some_rows(40)
    first = shop.add(rows)
    assert shop.revise(rows) == first
    assert shop.revise(rows[:7]) == first
    assert tasks.revisions(shop.store, "shop") == (first,)


def test_corrections_alone_add_no_split(shop: Shop) -> None:
    first = shop.add(some_rows(40))
    words, label = shop.rows_in(first, "evaluation")[0]
    second = shop.revise([(words, another(label))])
    assert [split.name for split in second.splits] == [split.name for split in first.splits]
    changed = [split.name for split in second.splits if split.digest != first.split(split.name).digest]
    assert changed == ["evaluation"]
    assert second.labels == first.labels


def test_one_new_row_is_trained_on(shop: Shop) -> None:
    first = shop.add(some_rows(40))
    second = shop.revise(some_rows(1, start=40))
    assert shop.texts(second, "train") == [*shop.texts(first, "train"), " ".join(words_of(40))]
    assert len(second.evaluation_parts) == 1
    assert second.checks["revision"]["added"] == {"train": 1, "validation": 0, "evaluation": 0}


@pytest.mark.parametrize("kind", LABELLED)
def test_a_label_that_no_row_has_any_more_leaves_the_map(store: Store, tmp_path: Path, kind: str) -> None:
    shop = Shop(store, tmp_path, kind)
    misspelt = [(words_of(number), "salt") for number in range(50, 53)]
    first = shop.add([*some_rows(50), *misspelt])
    second = shop.revise([(words, "milk") for words, _ in misspelt])
    gone = "B-salt" if kind == "token-classification" else "salt"
    assert gone in first.labels
    assert second.labels == tuple(label for label in first.labels if label != gone)


def test_a_label_that_only_evaluation_rows_have_is_refused(labels_shop: Shop) -> None:
    shop = labels_shop
    first = shop.add(some_rows(60))
    learned = [row for split in ("train", "validation") for row in shop.rows_in(first, split)]
    with pytest.raises(DataError, match="No training row has the label 'wine', and") as error:
        shop.revise([(words, "milk") for words, label in learned if label == "wine"])
    left = sum(label == "wine" for _, label in shop.rows_in(first, "evaluation"))
    assert f"{left} rows outside of it have" in str(error.value)
    assert tasks.revisions(shop.store, "shop") == (first,)
    with pytest.raises(DataError, match="No training row has the label 'salt'"):
        shop.revise(some_rows(3, start=60), evaluation=some_rows(3, start=70, labels=("salt",)))


def test_all_rows_corrected_to_one_label_are_refused(labels_shop: Shop) -> None:
    rows = some_rows(40)
    labels_shop.add(rows)
    with pytest.raises(DataError, match="a single label, 'milk'"):
        labels_shop.revise([(words, "milk") for words, _ in rows])


def test_what_cannot_be_a_revision_is_said_with_what_to_do(labels_shop: Shop) -> None:
    shop = labels_shop
    shop.add(some_rows(40))
    with pytest.raises(DataError, match="no column 'colour'"):
        shop.revise(some_rows(3, start=40), target_column="colour")
    with pytest.raises(NotFoundError):
        revise_task(shop.store, RevisionRequest("other", shop.spec(some_rows(3))))
    with pytest.raises(NotFoundError):
        revise_task(shop.store, RevisionRequest("shop", f"csv:{shop.folder / 'nowhere.csv'}"))
    with pytest.raises(UsageError, match="names one of them"):
        revise_task(shop.store, RevisionRequest("shop@r1", shop.spec(some_rows(3))))
    for sizes in ({"eval_size": -1}, {"train_size": -1}):
        with pytest.raises(UsageError, match="must be 0 or more"):
            shop.revise(some_rows(10, start=40), **sizes)
    for sizes, most in (({"eval_size": 8}, "--eval-size 7"), ({"train_size": 11}, "--train-size 5")):
        with pytest.raises(DataError, match="new rows were asked for") as error:
            shop.revise(some_rows(10, start=40), **sizes)
        assert error.value.hint == most


def test_sizes_limit_the_new_rows(labels_shop: Shop) -> None:
    first = labels_shop.add(some_rows(60))
    second = labels_shop.revise(some_rows(60, start=60), train_size=9, eval_size=6)
    assert second.split("train").examples == first.split("train").examples + 9
    assert second.split("evaluation-r2").examples == 6
    third = labels_shop.revise(some_rows(20, start=120), eval_size=0)
    assert len(third.evaluation_parts) == 2


def test_the_order_of_labels_can_be_given(labels_shop: Shop) -> None:
    labels_shop.add(some_rows(40))
    order = ("wine", "salt", "milk", "bread")
    second = labels_shop.revise(some_rows(12, start=40, labels=("salt",)), labels=order)
    assert second.labels == order
    assert {label for _, label in labels_shop.rows_in(second, "evaluation")} == set(LABELS)


def test_a_new_label_whose_rows_all_resemble_each_other_is_trained_on(labels_shop: Shop) -> None:
    first = labels_shop.add(some_rows(40))
    alike = [(resembling(words_of(50), number), "salt") for number in range(12)]
    second = labels_shop.revise([*alike, *some_rows(12, start=60)])
    counts = {split.name: split.label_counts["salt"] for split in second.splits}
    assert counts == {"train": 12, "validation": 0, "evaluation": 0, "evaluation-r2": 0}
    assert second.checks["near_duplicates"] == 0
    assert second.split("evaluation-r2").examples and second.split("train").examples > first.split("train").examples


def test_rows_given_for_evaluation_that_were_trained_on_stay_where_they_are(labels_shop: Shop) -> None:
    shop = labels_shop
    first = shop.add(some_rows(60))
    trained = shop.rows_in(first, "train")[:4]
    near = [(resembling(words, at), label) for at, (words, label) in enumerate(trained)]
    fresh = some_rows(5, start=60)
    second = shop.revise(some_rows(4, start=70), evaluation=[*trained, *near, *fresh])
    assert sorted(shop.texts(second, "evaluation-r2")) == sorted(" ".join(words) for words, _ in fresh)
    assert second.checks["near_duplicates"] == 4
    notes = " ".join(second.checks["notes"])
    assert "4 rows that were given for evaluation have texts that were trained on, and stay there" in notes
    assert any(
        "4 examples were left out because of near duplicates among rows on the other side" in sentence
        for sentence in left_out(second)
    )


def test_a_text_written_otherwise_is_the_same_text(labels_shop: Shop) -> None:
    shop = labels_shop
    first = shop.add(some_rows(40))
    words, label = shop.rows_in(first, "train")[0]
    second = shop.revise([([word.upper() + " " for word in words], another(label))])
    assert shop.rows_in(second, "train")[0] == (words, another(label))
    assert second.split("train").examples == first.split("train").examples


_numbers: Iterator[int] = itertools.count()
_lots = st.lists(
    # a text, whether it is given as it is or as a near duplicate, its label, the lot and the part that it comes in
    st.tuples(
        st.integers(0, 39),
        st.booleans(),
        st.sampled_from(LABELS),
        st.integers(1, 2),
        st.sampled_from(["train", "eval"]),
    ),
    min_size=6,
    max_size=60,
)


@given(drawn=_lots, official=st.booleans())
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_no_text_that_was_trained_on_is_ever_evaluated_on(
    labels_shop: Shop, drawn: list[tuple[int, bool, str, int, str]], official: bool
) -> None:
    shop = Shop(labels_shop.store, labels_shop.folder, "classification", name=f"shop-{next(_numbers)}")
    known = [shop.add(some_rows(24))]
    for lot in (1, 2):
        parts: dict[str, Rows] = {"train": some_rows(3, start=40 * (lot + 1)), "eval": some_rows(3, start=400 * lot)}
        for number, changed, label, own_lot, part in drawn:
            if own_lot == lot:
                words = resembling(words_of(number), lot) if changed else words_of(number)
                parts[part if official else "train"].append((words, label))
        known.append(shop.revise(parts["train"], parts["eval"] if official else None))
    for before, now in itertools.pairwise(known):
        old = [text for split in ("train", "validation") for text in shop.texts(before, split)]
        parts_before = {part.name: shop.texts(before, part.name) for part in before.evaluation_parts}
        assert {name: shop.texts(now, name) for name in parts_before} == parts_before
        added = [
            text
            for part in now.evaluation_parts
            if part.name not in parts_before
            for text in shop.texts(now, part.name)
        ]
        assert not overlapping(added, old)
        trained = [text for split in ("train", "validation") for text in shop.texts(now, split)]
        before_train = shop.texts(before, "train")
        assert shop.texts(now, "train")[: len(before_train)] == before_train
        new = set(trained) - set(old)
        evaluated = [text for part in now.evaluation_parts for text in shop.texts(now, part.name)]
        assert not overlapping(sorted(new), evaluated)
        assert len(set(evaluated)) == len(evaluated)


def overlapping(texts: Sequence[str], others: Sequence[str]) -> set[str]:
    """Texts that are, or resemble, one of the others."""
    shingles = Shingles([*texts, *others])
    near = shingles.resembling(range(len(texts)), range(len(texts), len(texts) + len(others)))
    return {texts[at] for at in near} | set(texts) & set(others)
