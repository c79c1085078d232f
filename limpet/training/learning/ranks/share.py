"""How the processes of one training share a microbatch: by its rows, one to each in turn.

Every process makes the whole microbatch and takes its rows of it, so that they are padded as in one process; and
every dropout draws for the whole one and keeps its rows' part, so that a row loses what it would lose in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

__all__ = ["Share"]


@dataclass
class Share:
    """The rows that one process computes; `whole` is how many rows the microbatch has that is computed now."""

    rank: int
    world: int
    whole: int = field(default=0, init=False)

    def of(self, microbatch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """Return this process's rows of a microbatch, and whether they count.

        Where there are fewer rows than processes, those without one compute the first for nothing: it takes no time
        that the others do not take, and gradients and random numbers stay those of one process.
        """
        self.whole = len(next(iter(microbatch.values())))
        rows = self._rows()
        return {name: tensor[rows] for name, tensor in microbatch.items()}, self.rank < self.whole

    def _rows(self) -> slice:
        return slice(self.rank, None, self.world) if self.rank < self.whole else slice(0, 1)

    @contextmanager
    def sharing_dropout(self, model: nn.Module) -> Iterator[None]:
        """Let each dropout of a model draw for all rows for the length of a `with` block.

        Dropout that is no module of its own, such as that of attention probabilities, still draws for the rows at
        hand.
        """
        modules = [module for module in model.modules() if type(module) is nn.Dropout and module.p]
        for module in modules:
            # seen before the method of its class
            module.forward = self._dropping(module)  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            for module in modules:
                del module.forward

    def _dropping(self, module: nn.Dropout) -> Callable[[Tensor], Tensor]:
        def forward(inputs: Tensor) -> Tensor:
            if not module.training:
                return inputs
            rows = self._rows()
            if len(inputs) != len(range(self.whole)[rows]):
                # not one row for each text: what it is, is not known here
                return nn.functional.dropout(inputs, module.p, training=True)
            ones = torch.ones(self.whole, *inputs.shape[1:], dtype=inputs.dtype, device=inputs.device)
            return inputs * nn.functional.dropout(ones, module.p, training=True)[rows]

        return forward
