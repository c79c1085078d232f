"""Token ids of texts: computed once on a machine, and kept as Arrow in the cache folder.

Tokenising reads a text to its end, however little of it is kept; a task's texts are evaluated again after every
addition, and are the same each time. What is kept is found by all that decides it: tokenizer, texts and length.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from limpet.registry.cache import cache_folder, keep, recall
from limpet.registry.formats.canonical import digest_json
from limpet.training.batching.token_rows import TokenRows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["seen_once", "token_ids"]

_FEW = 32
"""So many texts are tokenised faster than they are looked for."""
_TEXTS_PER_CALL = 1000
_MOST_TOKENS = 1 << 31
"""Arrow's lists count to here; what is more is not kept."""
_once: ContextVar[bool] = ContextVar("once", default=False)
_digests: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


@contextmanager
def seen_once() -> Iterator[None]:
    """Keep nothing of the texts that are tokenised within the block: nobody will ask for them again."""
    token = _once.set(True)
    try:
        yield
    finally:
        _once.reset(token)


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> TokenRows:
    """Turn texts into token ids, cut at `max_length` tokens, special tokens included, without padding."""
    if len(texts) <= _FEW or _once.get() or not hasattr(tokenizer, "backend_tokenizer"):
        return _tokenise(tokenizer, texts, max_length)
    # the side that is cut stands in the tokenizer's configuration, not in what the digest covers
    decided_by = [_digest(tokenizer), tokenizer.truncation_side, max_length, list(texts)]
    key = digest_json(decided_by).removeprefix("sha256:")
    path = cache_folder() / "tokens" / key
    ids = _read(path, len(texts))
    if ids is None:
        ids = _tokenise(tokenizer, texts, max_length)
        _write(path, ids)
    return ids


def _tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> TokenRows:
    def ids(some: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = tokenizer(list(some), truncation=True, max_length=max_length, padding=False)[
            "input_ids"
        ]
        return rows

    # what a tokenizer tells of a text beside its ids takes many times their memory
    starts = range(0, len(texts), _TEXTS_PER_CALL)
    return TokenRows.of(ids(texts[start : start + _TEXTS_PER_CALL]) for start in starts)


def _digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the digest of what a tokenizer does, whatever it was last asked to cut or pad to."""
    if tokenizer not in _digests:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content |= {"truncation": None, "padding": None, "class": type(tokenizer).__name__}
        _digests[tokenizer] = digest_json(content)
    return _digests[tokenizer]


def _read(path: Path, count: int) -> TokenRows | None:
    """Return what is kept; null where there is nothing, or not what was kept."""
    import pyarrow

    content = recall(path)
    if content is None:
        return None
    column = pyarrow.ipc.open_file(pyarrow.py_buffer(content)).read_all().column("ids").combine_chunks()
    # a table of one batch is what is written, and its offsets begin at 0
    rows = TokenRows(column.values.to_numpy(), column.offsets.to_numpy()[1:].astype("int64"))
    return rows if len(rows) == count else None


def _write(path: Path, rows: TokenRows) -> None:
    import pyarrow

    if len(rows.flat) >= _MOST_TOKENS:
        return
    offsets = pyarrow.array([0, *rows.ends.tolist()], pyarrow.int32())
    table = pyarrow.table({"ids": pyarrow.ListArray.from_arrays(offsets, pyarrow.array(rows.flat))})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    keep(path, memoryview(sink.getvalue()))
