"""Experience replay: a few examples of every earlier task are rehearsed while a new one is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from limpet.errors import UsageError
from limpet.forgetting.strategies._context import Context, stage
from limpet.forgetting.strategies._replay_buffer import SELECTIONS, buffered
from limpet.forgetting.strategies.sequential import Sequential

if TYPE_CHECKING:
    from limpet.training.learning.runs.run_folder import Staged, Start

__all__ = ["STRATEGY", "Replay"]

_ONCE = "once"


class Replay(Sequential):
    """As `sequential`, with batches of buffered examples among those of the new task.

    Every epoch has the new task's own examples once, as in every other strategy, and buffered examples on top of
    them, in batches of one task each: rehearsal costs steps of its own. `rehearsal` says how many: `once` is each
    buffered example once, a number so many for each new example, whatever the buffer holds. Experience replay as
    Chaudhry et al. 2019 (arXiv 1902.10486) define it has a ratio of 1: as many from memory as are new, though in one
    batch with them. A rehearsed example passes its task's head, which stays as it was.
    """

    name = "replay"
    summary = "as sequential, rehearsing a buffer of earlier tasks' training examples"
    settings: Mapping[str, Any] = {"buffer": 0.05, "selection": "reservoir", "rehearsal": _ONCE}

    def check(self, settings: Mapping[str, Any]) -> None:
        """See `Strategy.check`."""
        buffer, selection = settings["buffer"], settings["selection"]
        if not 0 < buffer < 1 and (buffer < 1 or buffer != int(buffer)):
            raise UsageError(
                f"A replay buffer of {buffer:g} is neither a share between 0 and 1 nor a number of examples.",
                "buffer: 0.05",
            )
        if selection not in SELECTIONS:
            raise UsageError(
                f"A replay buffer can't be selected by {selection!r}.", f"selection: {' or '.join(SELECTIONS)}"
            )
        _ratio(settings["rehearsal"])

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        from limpet.training.data.stored_splits import read_split
        from limpet.training.learning.joint_training import JointTask, JointTraining

        earlier = context.tasks[:index]
        labels = {
            task.name: [
                example.target if isinstance(example.target, int) else None
                for example in read_split(context.store, task, "train")
            ]
            for task in earlier
        }
        chosen = buffered(
            labels, context.settings["buffer"], context.settings["selection"], seed=context.training.seed
        )
        draws = _draws(context, index, {name: len(indices) for name, indices in chosen.items()})
        rehearsed = tuple(
            JointTask(task, chosen[task.name], learned[task.name].files, draws.get(task.name))
            for task in earlier
            if chosen[task.name] and draws.get(task.name) != 0
        )
        joint = JointTraining(rehearsed)
        return (stage(context, index, self.newest(context, index, learned), joint=joint),)


def _ratio(rehearsal: str) -> float | None:
    """Return how many examples are rehearsed for each new one; null for each buffered example once an epoch.

    Raises:
        UsageError: It is neither.
    """
    if rehearsal == _ONCE:
        return None
    try:
        ratio = float(rehearsal)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio < float("inf"):
        raise UsageError(
            f"{rehearsal!r} is neither a ratio of rehearsed to new examples above 0, nor {_ONCE!r}.", "rehearsal: 1"
        )
    return ratio


def _draws(context: Context, index: int, held: Mapping[str, int]) -> dict[str, int]:
    """Share the rehearsed examples of an epoch among the earlier tasks, by what the buffer holds of each."""
    ratio = _ratio(context.settings["rehearsal"])
    if ratio is None:
        return {}
    total, before, shares = round(ratio * context.tasks[index].split("train").examples), 0, {}
    for name, count in held.items():
        # what is rounded off one goes to the next, so that they add up
        until = round(total * (before + count) / sum(held.values()))
        shares[name] = until - round(total * before / sum(held.values()))
        before += count
    return shares


STRATEGY = Replay()
