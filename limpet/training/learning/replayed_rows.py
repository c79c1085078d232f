"""Which rows of a revised task are learned: those that are new or corrected, and some or all of the old ones."""

from __future__ import annotations

from limpet.training.batching.examples import Example
from limpet.training.data.revise_task import plain_rows
from limpet.training.data.splits import draw
from limpet.training.data.stored_splits import read_split
from limpet.training.learning.training_run import TrainingRun
from limpet.training.task_types import task_type

__all__ = ["training_examples"]

# splits are drawn by 0, 1 and 2 and so on under the task's seed; this is drawn under the run's
_DRAW = 1_000_000


def training_examples(run: TrainingRun) -> list[Example]:
    """Return the examples that a run learns, in the order of the training split.

    An old row is one that the version to begin with was learned on, with the same target. They are drawn in
    proportion to their labels; all of them are taken where there are no more than were asked for.

    Raises:
        IntegrityError: A split's bytes are missing or changed.
    """
    examples = read_split(run.store, run.task, "train")
    replay, start = run.settings.replay, run.start
    if replay is None or start is None or start.data is None:
        return examples
    rows = plain_rows(run.store, run.task, run.task.split("train"))
    known = set(plain_rows(run.store, start.data, start.data.split("train")))
    old = [at for at, row in enumerate(rows) if row in known]
    if replay >= len(old):
        return examples
    kind = task_type(run.task.definition.type)
    strata = [str(target) if kind.stratified else "" for _, target in rows]
    drawn = set(draw(strata, old, replay, seed=(run.settings.seed, _DRAW)))
    left_out = set(old) - drawn
    run.progress.note(
        f"{len(rows) - len(old)} rows are new or corrected since {start.reference}; {replay} of its {len(old)} other "
        "rows are replayed"
    )
    return [example for at, example in enumerate(examples) if at not in left_out]
