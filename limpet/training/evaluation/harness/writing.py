"""Writing until one of some texts comes: in pieces, as texts are found in what was decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from limpet.training.batching.batches import collate, on_device

__all__ = ["write_until"]

_FIRST_PIECE = 16
"""Tokens; each piece is twice as long as the one before, so that few prompts are read again."""

Write = Callable[[dict[str, torch.Tensor], int], list[list[int]]]
"""Token ids after prompts, as many as are allowed; fewer where the text has ended."""


def write_until(
    write: Write,
    prompts: Sequence[list[int]],
    *,
    most: int,
    has_ended: Callable[[list[int]], bool],
    pad_id: int,
    device: torch.device,
) -> list[list[int]]:
    """Write after every prompt until its text has ended, one that stops it is there, or `most` tokens are written.

    Args:
        write: Writes some more tokens.
        prompts: Token ids, at least one each.
        most: The longest answer.
        has_ended: Tells whether what was written so far has a text in it that stops it.
        pad_id: The token that fills rows up.
        device: Where the model is.
    """
    written: list[list[int]] = [[] for _ in prompts]
    open_rows, done, piece = list(range(len(prompts))), 0, _FIRST_PIECE
    while open_rows and done < most:
        size = min(piece, most - done)
        inputs = on_device(collate([[*prompts[row], *written[row]] for row in open_rows], pad_id), device)
        more = dict(zip(open_rows, write(inputs, size), strict=True))
        for row, ids in more.items():
            written[row] += ids
        open_rows = [row for row, ids in more.items() if len(ids) == size and not has_ended(written[row])]
        done, piece = done + size, 2 * piece
    return written
