"""Which rows of a revised task are learned: those that are new or corrected, and some or all of the old ones."""

from __future__ import annotations

from dataclasses import dataclass

from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training.batching.examples import Example
from limpet.training.data.revise_task import plain_rows
from limpet.training.data.splits import draw
from limpet.training.data.stored_splits import read_split
from limpet.training.task_types import task_type

__all__ = ["ReplayTerms", "Replayed", "replay_rows"]

# splits are drawn by 0, 1 and 2 and so on under the task's seed; this is drawn under the run's
_DRAW = 1_000_000


@dataclass(frozen=True)
class Replayed:
    """The examples that are learned, in the order of the training split, and how many of which kind they are.

    `new` are those that are new or corrected; `old` is how many others there are, `replayed` how many of them an
    epoch has. Where that is not all of them, `order` has the places, among the examples, of those that come in turn.
    """

    examples: list[Example]
    new: int
    old: int
    replayed: int
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReplayTerms:
    """How many old rows an epoch has at the most, how many epochs there are, and the seed of the draw."""

    replay: int
    epochs: int
    seed: int


def replay_rows(store: Store, task: TaskRecord, before: TaskRecord, *, terms: ReplayTerms) -> Replayed:
    """Choose what is learned of a revision by a version that goes on from one of an earlier revision.

    No epoch has an old row again before all of them came once. Those that come are drawn in proportion to their
    labels; all are taken where there are no more than were asked for.

    Args:
        store: The home.
        task: The revision.
        before: The revision that the earlier version was learned on. Old rows are those that it has with the same
            target.
        terms: How many old rows are learned again.

    Raises:
        IntegrityError: A split's bytes are missing or changed.
    """
    examples = read_split(store, task, "train")
    rows = plain_rows(store, task, task.split("train"))
    known = set(plain_rows(store, before, before.split("train")))
    old = [at for at, row in enumerate(rows) if row in known]
    new = len(rows) - len(old)
    if terms.replay >= len(old):
        return Replayed(examples, new, len(old), len(old))
    stratified = task_type(task.definition.type).stratified
    strata = [str(target) if stratified else "" for _, target in rows]
    size = min(len(old), terms.replay * terms.epochs)
    drawn = draw(strata, old, size, seed=(terms.seed, _DRAW))
    left_out = set(old).difference(drawn)
    kept = [at for at in range(len(rows)) if at not in left_out]
    places = {at: place for place, at in enumerate(kept)}
    learned = [examples[at] for at in kept]
    return Replayed(learned, new, len(old), terms.replay, tuple(places[at] for at in drawn))
