"""What a fine-tuned copy changed of the base, as a LoRA: each layer's change by its largest singular values.

By Eckart and Young (1936) no matrix of that rank is nearer in the sum of squares. What is kept of a change is told as
its energy: the sum of its squared singular values that are kept, over the sum of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limpet.errors import UsageError
from limpet.first_few import first_few

__all__ = ["CURVE", "Change", "Factors", "factorise", "largest_rows", "refuse_large", "refuse_left_out"]

CURVE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Ranks at which the energy that is kept is told."""


@dataclass(frozen=True)
class Factors:
    """The change of one layer (out, in) as B (out, rank) times A (rank, in)."""

    a: Tensor
    b: Tensor

    @property
    def rank(self) -> int:
        """How many singular values are kept."""
        return len(self.a)


@dataclass
class Change:
    """How much of a change there is, and what of it is kept.

    Attributes:
        energy: The sum of squares of all that changed, in the tensors that a task reads.
        kept: The part of it that the factors keep.
        by_rank: What every rank of `CURVE` would keep.
        left_out: The sum of squares of each tensor that no LoRA can hold.
        numbers: How many numbers the factors have.
        changed_numbers: How many the changed layers have themselves.
    """

    energy: float = 0.0
    kept: float = 0.0
    by_rank: dict[int, float] = field(default_factory=lambda: dict.fromkeys(CURVE, 0.0))
    left_out: dict[str, float] = field(default_factory=dict)
    numbers: int = 0
    changed_numbers: int = 0

    def leave_out(self, name: str, delta: Tensor) -> None:
        """Count a change that can't be kept."""
        self.left_out[name] = float(delta.double().square().sum())
        self.energy += self.left_out[name]

    def keep(self, delta: Tensor) -> None:
        """Count a change that is kept as it is."""
        energy = float(delta.double().square().sum())
        self.energy += energy
        self.kept += energy
        for rank in CURVE:
            self.by_rank[rank] += energy

    @property
    def share(self) -> float:
        """The share of the energy that is kept."""
        return self.kept / self.energy if self.energy else 1.0

    def curve(self) -> dict[str, float]:
        """Return the share of the energy that every rank keeps, up to the first that keeps all there is to keep."""
        shares = {str(rank): round(kept / self.energy, 4) for rank, kept in self.by_rank.items()}
        most = max(shares.values(), default=0.0)
        first = next((at for at, share in enumerate(shares.values()) if share >= most), len(shares))
        return dict(list(shares.items())[: first + 1])

    def told_curve(self) -> str:
        """Return the curve for a message."""
        return ", ".join(f"rank {rank} keeps {100 * share:.1f} %" for rank, share in self.curve().items())


def factorise(delta: Tensor, rank: float, change: Change) -> Factors:
    """Return the best factors of a layer's change, and count what they keep.

    Args:
        delta: The change (out, in).
        rank: How many singular values are kept; below 1, the share of the energy that the fewest of them must keep.
        change: Counts it.
    """
    delta = delta.double()
    tall = delta.shape[0] > delta.shape[1]
    # of the smaller side: its eigenvalues are the squared singular values, and it has no more than there are
    squares, vectors = torch.linalg.eigh(delta.T @ delta if tall else delta @ delta.T)
    squares, vectors = squares.flip(0).clamp(min=0), vectors.flip(1)
    energy = squares.cumsum(0)
    total = float(energy[-1])
    kept = int(torch.searchsorted(energy, rank * total)) + 1 if rank < 1 else int(rank)
    kept = min(kept, len(squares))
    change.energy += total
    change.kept += float(energy[kept - 1])
    for one in CURVE:
        change.by_rank[one] += float(energy[min(one, len(squares)) - 1])
    change.numbers += kept * sum(delta.shape)
    change.changed_numbers += delta.numel()
    vectors = vectors[:, :kept]
    # halves of equal size train on better than one that has all of it
    roots = torch.where(squares > 1e-20 * squares[0], squares.pow(0.25), 1.0)[:kept]
    if tall:
        return Factors(((vectors * roots).T).float(), ((delta @ vectors) / roots).float())
    return Factors(((vectors / roots).T @ delta).float(), (vectors * roots).float())


def largest_rows(delta: Tensor, rank: float, change: Change, *, times: int) -> list[int]:
    """Return which rows of an embedding's change are kept, the largest, in their order; and count what they keep.

    Args:
        delta: The change (words, width).
        rank: They are as many numbers as factors of this rank; below 1, the fewest rows that keep this share.
        change: Counts it.
        times: In how many places the model reads the embedding.
    """
    squares, order = delta.double().square().sum(dim=1).sort(descending=True, stable=True)
    energy = times * squares.cumsum(0)
    total, changed = float(energy[-1]), int((squares > 0).sum())

    def rows_of(at: int) -> int:
        return min(max(1, at * sum(delta.shape) // delta.shape[1]), changed)

    kept = int(torch.searchsorted(energy, rank * total)) + 1 if rank < 1 else rows_of(int(rank))
    kept = min(kept, changed)
    change.energy += total
    change.kept += float(energy[kept - 1])
    for one in CURVE:
        change.by_rank[one] += float(energy[rows_of(one) - 1])
    change.numbers += kept * delta.shape[1]
    change.changed_numbers += delta.numel()
    return sorted(order[:kept].tolist())


def refuse_left_out(change: Change, rank: float, model: str) -> None:
    """Refuse a share of the change that can't be kept, whatever the rank.

    Raises:
        UsageError: What a LoRA can't hold is more than may be lost.
    """
    lost = sum(change.left_out.values()) / change.energy
    if not change.kept:
        raise UsageError(
            f"All that {model} changed is in tensors that a LoRA can't hold: {first_few(sorted(change.left_out))}.",
            "limpet train --method full learns a whole copy here",
        )
    if rank < 1 and lost > 1 - rank:
        names = sorted(change.left_out, key=lambda name: -change.left_out[name])
        raise UsageError(
            f"{100 * lost:.1f} % of what {model} changed is in tensors that a LoRA can't hold "
            f"({first_few(names, 3)}), so no rank keeps {100 * rank:g} % of it: {change.told_curve()}.",
            "a whole number as --rank leaves them out, and tells how many answers that costs",
        )


def refuse_large(change: Change, ranks: Sequence[int], *, rank: float, model: str) -> None:
    """Refuse factors that are larger than the layers themselves.

    Raises:
        UsageError: They are.
    """
    if rank < 1 and change.numbers >= change.changed_numbers > 0:
        raise UsageError(
            f"What {model} changed has no low rank: to keep {100 * rank:g} % of each layer's change takes ranks of "
            f"{min(ranks)} to {max(ranks)}, {change.numbers:,} numbers where the layers have "
            f"{change.changed_numbers:,}. Of the whole, {change.told_curve()}.",
            "a whole number as --rank makes the adapter all the same, and tells how many answers that costs",
        )
