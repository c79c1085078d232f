"""Experience replay: a few examples of every earlier task are rehearsed while a new one is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from limpet.errors import UsageError
from limpet.forgetting.strategies._buffer import SELECTIONS, buffered
from limpet.forgetting.strategies._lesson import Context, stage
from limpet.forgetting.strategies.sequential import Sequential

if TYPE_CHECKING:
    from limpet.training.learn import Staged, Start

__all__ = ["STRATEGY", "Replay"]


class Replay(Sequential):
    """As `sequential`, with batches of buffered examples among those of the new task (Chaudhry et al. 2019, ER).

    Every epoch has the new task's own examples once, as in every other strategy, and each buffered example once on
    top of them: rehearsal costs steps of its own. A rehearsed example passes its task's head, which stays as it was.
    """

    name = "replay"
    summary = "as sequential, rehearsing a buffer of earlier tasks' training examples"
    settings: Mapping[str, Any] = {"buffer": 0.05, "selection": "reservoir"}

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

    def stage(self, context: Context, index: int, learned: Mapping[str, Start]) -> tuple[Staged, ...]:
        """See `Strategy.stage`."""
        from limpet.training.companions import Companion
        from limpet.training.data import read_split

        earlier = context.tasks[:index]
        labels = {
            task.name: [
                example.target if isinstance(example.target, int) else None
                for example in read_split(context.store, task, "train")
            ]
            for task in earlier
        }
        chosen = buffered(labels, context.settings["buffer"], context.settings["selection"], context.training.seed)
        companions = [
            Companion(task, chosen[task.name], learned[task.name].files) for task in earlier if chosen[task.name]
        ]
        return (stage(context, index, self.newest(context, index, learned), companions),)


STRATEGY = Replay()
