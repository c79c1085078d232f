"""A data SPEC as people type it, completed to the form that is recorded: `train.csv` is `csv:train.csv`."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from limpet.errors import UsageError
from limpet.training.data.reading.sample_corpora import CORPORA

__all__ = ["DATA_FORMS", "MEMORY", "complete", "split_paths"]

MEMORY = "memory"
"""The kind of data that was given in Python: behind it stands the digest of its rows."""
DATA_FORMS = "sample:NAME, hub:org/name[:config][@revision], csv:PATH, jsonl:PATH or parquet:PATH"
_KINDS = ("sample", "hub", "csv", "jsonl", "parquet")
_KIND_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PARTS = {"train": "train", "eval": "evaluation", "validation": "validation"}
_PART = re.compile(r",(?=(?:train|eval|validation)=)")
_WORD = re.compile(r"[a-zA-Z]+")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HINT = "--data csv:train.csv"


def complete(spec: str) -> str:
    """Return a SPEC with its kind in front; the kind of a path is that of its name's ending.

    Raises:
        UsageError: It names no data, or files whose kind can't be told.
    """
    kind, colon, rest = spec.partition(":")
    if colon and kind in (*_KINDS, MEMORY):
        if not rest:
            raise UsageError(f"{spec!r} names no data: it is none of {DATA_FORMS}.", _HINT)
        return spec
    paths = split_paths(spec).values()
    kinds = {_KIND_OF_SUFFIX.get(path.suffix.lower()) for path in paths}
    if colon and _WORD.fullmatch(kind) and not any(path.exists() for path in paths):
        meant = get_close_matches(kind, _KINDS, n=1) or [_KIND_OF_SUFFIX.get(f".{kind.lower()}", "csv")]
        hint = f"--data {meant[0]}:{rest}" if rest else _HINT
        raise UsageError(f"{kind!r} is no kind of data: a SPEC is {DATA_FORMS}.", hint)
    if len(kinds) == 1 and (only := kinds.pop()) is not None:
        return f"{only}:{spec}"
    if kinds:
        raise UsageError(f"{spec!r} names files of several kinds, and a task is read from one kind.", _HINT)
    raise UsageError(f"{spec!r} names no data: it is none of {DATA_FORMS}.", _nearest(spec))


def split_paths(paths: str) -> dict[str, Path]:
    """Return the file of each part: of `train`, where a single path is named.

    Raises:
        UsageError: A part is named twice, without a path, or there is none for training.
    """
    if not re.match(r"(train|eval|validation)=", paths):
        return {"train": Path(paths).expanduser()}
    parts: dict[str, Path] = {}
    for piece in _PART.split(paths):
        key, _, path = piece.partition("=")
        if not path or _PARTS[key] in parts:
            raise UsageError(f"{paths} names {key!r} twice or without a path.", "--data train=a.csv,eval=b.csv")
        parts[_PARTS[key]] = Path(path).expanduser()
    if "train" not in parts:
        raise UsageError(f"{paths} has no train=PATH.", "--data train=a.csv,eval=b.csv")
    return parts


def _nearest(spec: str) -> str:
    """Return what may have been meant by a word that is no path with a known ending."""
    if sample := get_close_matches(spec, CORPORA, n=1):
        return f"--data sample:{sample[0]}"
    path = Path(spec).expanduser()
    if path.is_file():
        return f"--data csv:{spec}, jsonl:{spec} or parquet:{spec}"
    if _HUB_ID.fullmatch(spec) and not path.exists():
        return f"--data hub:{spec}"
    return _HINT
