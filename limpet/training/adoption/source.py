"""What is registered from elsewhere: an adapter's folder, or a whole fine-tuned model to make an adapter of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limpet.errors import UsageError

__all__ = ["Source", "source_of"]


@dataclass(frozen=True)
class Source:
    """Where an adapter comes from.

    Attributes:
        folder: The adapter's folder, or with `rank` a whole model's.
        labels: The labels of the rows of a head of peft's, in their order; null for the order of the task.
        initial: The adapter as it was before training, where its beginning changed the base.
        rank: The rank of the adapter that is made of a whole model, or below 1 the share of each layer's change that
            its rank must keep.
    """

    folder: Path
    labels: Sequence[str] | None = None
    initial: Path | None = None
    rank: float | None = None


def source_of(
    folder: str | Path | None,
    *,
    labels: Sequence[str] | None,
    initial: str | Path | None,
    from_model: str | Path | None,
    rank: float | None,
) -> Source:
    """Return what is to be registered.

    Raises:
        UsageError: There is not one folder, or what is said beside it does not belong to it.
    """
    if (folder is None) == (from_model is None):
        what = "Nothing is named to register" if folder is None else "Two folders are named to register"
        raise UsageError(
            f"{what}: an adapter's folder, or a whole model's.",
            "limpet adapter register TASK FOLDER, or limpet adapter register TASK --from-model FOLDER --rank 0.95",
        )
    if from_model is None:
        if rank is not None:
            raise UsageError("--rank belongs to --from-model: an adapter has its own.", "leave out --rank")
        assert folder is not None
        return Source(Path(folder), labels, None if initial is None else Path(initial))
    if initial is not None:
        raise UsageError("--initial belongs to an adapter, and --from-model names a whole model.", "leave one out")
    if rank is None or not (0 < rank < 1 or (rank >= 1 and rank == int(rank))):
        raise UsageError(
            "--from-model needs a rank: a whole number, or below 1 the share of each layer's change to keep.",
            f"limpet adapter register TASK --from-model {from_model} --rank 0.95",
        )
    return Source(Path(from_model), labels, rank=rank)
