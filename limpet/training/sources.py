"""Where a task's data comes from: a data SPEC read into texts and targets, split as its authors split it.

SPEC is `sample:NAME`, `hub:org/name[:config][@revision]`, or `csv:`, `jsonl:` or `parquet:` with one path or
with `train=PATH,eval=PATH` (and `validation=PATH`).
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limpet.errors import DataError, LimpetError, NotFoundError, UnavailableError, UsageError
from limpet.training.corpora import corpus
from limpet.training.samples import cache_folder
from limpet.training.task_types import TaskType

__all__ = ["Pool", "Source", "read_source"]

_FILE_KINDS = ("csv", "jsonl", "parquet")
_PARTS = {"train": "train", "eval": "evaluation", "validation": "validation"}
_PART = re.compile(r",(?=(?:train|eval|validation)=)")
_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[^@]+))?(?:@(?P<revision>\S+))?")
_Usual = tuple[Sequence[str], Sequence[str]]
"""Usual names of the columns of texts and of targets."""
_FORMS = "sample:NAME, hub:org/name[:config][@revision], csv:PATH, jsonl:PATH or parquet:PATH"


@dataclass(frozen=True)
class Pool:
    """One part of a source as it was read: where from, and each row's text and target cell."""

    where: str
    texts: Sequence[Any]
    targets: Sequence[Any]


@dataclass(frozen=True)
class Source:
    """What a SPEC led to: the columns used and the parts there are (`train`, `evaluation`, `validation`)."""

    text_column: str
    target_column: str
    pools: dict[str, Pool]
    notes: tuple[str, ...] = ()


def read_source(
    spec: str,
    text_column: str | None,
    target_column: str | None,
    target_columns: Sequence[str],
    noun: str = "label",
    text_columns: Sequence[str] = TaskType.text_columns,
) -> Source:
    """Read the data that a SPEC names.

    Args:
        spec: The data SPEC as the user typed it.
        text_column: The column of the texts; null takes the first of `text_columns` that there is.
        target_column: The column of the targets; null takes the first of `target_columns` that there is.
        target_columns: Usual names of the target column for this type of task.
        noun: What a target is called, `label` or `target`; also the option that names its column.

        text_columns: Usual names of the text column for this type of task.

    Raises:
        UsageError: The SPEC has another form.
        NotFoundError: There is no such sample, file or hub dataset.
        DataError: A file can't be read, or lacks the columns.
        UnavailableError: The hub or the package index can't be reached.
    """
    kind, colon, rest = spec.partition(":")
    wanted = (text_column, target_column, (text_columns, target_columns), noun)
    if not colon or not rest:
        raise UsageError(f"{spec!r} names no data: it is none of {_FORMS}.", "--data csv:train.csv")
    if kind == "sample":
        return _from_sample(rest, *wanted)
    if kind == "hub":
        return _from_datasets(_read_hub(rest), *wanted)
    if kind in _FILE_KINDS:
        with _quiet_datasets():
            return _from_datasets(_read_files(kind, rest), *wanted)
    raise UsageError(f"{kind!r} is no kind of data: a SPEC is {_FORMS}.", "--data csv:train.csv")


def _from_sample(name: str, text: str | None, target: str | None, usual: _Usual, noun: str) -> Source:
    sample = corpus(name)
    where = f"sample:{name}"
    text, target = _choose_columns(sample.columns, text, target, usual, noun, where)
    pools = {}
    for part, rows in (("train", sample.train), ("evaluation", sample.evaluation)):
        if rows is not None:
            cells = {name: list(column) for name, column in zip(sample.columns, zip(*rows, strict=True), strict=True)}
            pools[part] = Pool(where, _texts(cells, text), cells[target])
    return Source(text, target, pools, sample.notes)


def _from_datasets(
    parts: dict[str, tuple[str, Any]], text: str | None, target: str | None, usual: _Usual, noun: str
) -> Source:
    where, train = parts["train"]
    text, target = _choose_columns(train.column_names, text, target, usual, noun, where)
    pools = {}
    for part, (place, data) in parts.items():
        _choose_columns(data.column_names, text, target, usual, noun, place)
        columns = {name: _cells(data, name) for name in (*_joined(text, data.column_names), target)}
        pools[part] = Pool(place, _texts(columns, text), columns[target])
    return Source(text, target, pools)


def _choose_columns(
    columns: Sequence[str], text: str | None, target: str | None, usual: _Usual, noun: str, where: str
) -> tuple[str, str]:
    chosen = []
    for asked, known, what in ((text, usual[0], "text"), (target, usual[1], noun)):
        candidates = [asked] if asked else list(known)
        found = [name for name in candidates if name in columns or (what == "text" and _joined(name, columns))]
        if not found:
            named = f"no column {asked!r}" if asked else f"no {what} column (none of {', '.join(known)})"
            raise DataError(
                f"{where} has {named}; its columns are: {', '.join(map(repr, columns))}.",
                f"--text COL --{noun} COL",
            )
        chosen.append(found[0])
    return chosen[0], chosen[1]


def _joined(text: str, columns: Sequence[str]) -> list[str]:
    """The columns that make up a text: `premise+hypothesis` stands for two, one a line; none where one is missing."""
    names = [text] if text in columns else text.split("+")
    return names if set(names) <= set(columns) else []


def _texts(cells: Mapping[str, Sequence[Any]], text: str) -> Sequence[Any]:
    if text in cells:
        return cells[text]
    parts = zip(*(cells[name] for name in text.split("+")), strict=True)
    return ["\n".join("" if cell is None else str(cell) for cell in row) for row in parts]


def _cells(data: Any, column: str) -> list[Any]:
    values = list(data[column])
    names = getattr(data.features[column], "names", None)
    if names is None:
        return values
    # the hub's convention: a class label is an index into names, and -1 stands for "not published"
    return [None if value is None or value < 0 else names[value] for value in values]


# files


def _read_files(kind: str, paths: str) -> dict[str, tuple[str, Any]]:
    parts = {}
    for part, path in _split_paths(kind, paths).items():
        if not path.is_file():
            raise NotFoundError(f"There is no file {path}.", f"ls {path.parent}")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: it has no bytes.", "name a file with at least two labels")
        if kind != "parquet":
            _check_utf8(path)
        parts[part] = (str(path), _load_file(kind, path))
    return parts


def _split_paths(kind: str, paths: str) -> dict[str, Path]:
    if not re.match(r"(train|eval|validation)=", paths):
        return {"train": Path(paths).expanduser()}
    parts: dict[str, Path] = {}
    for piece in _PART.split(paths):
        key, _, path = piece.partition("=")
        if not path or _PARTS[key] in parts:
            raise UsageError(
                f"{kind}:{paths} names {key!r} twice or without a path.",
                f"--data {kind}:train=PATH,eval=PATH",
            )
        parts[_PARTS[key]] = Path(path).expanduser()
    if "train" not in parts:
        raise UsageError(f"{kind}:{paths} has no train=PATH.", f"--data {kind}:train=PATH,eval=PATH")
    return parts


def _check_utf8(path: Path) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(1 << 20)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                at = done - pending + error.start
                byte = error.object[error.start]
                raise DataError(
                    f"{path} is not UTF-8: byte 0x{byte:02x} at offset {at} can't be decoded.",
                    f"iconv -f LATIN1 -t UTF-8 {path} > {path.with_suffix('.utf8' + path.suffix)}",
                ) from error
            if not chunk:
                return
            done += len(chunk)


def _load_file(kind: str, path: Path) -> Any:
    from datasets import Dataset

    cache_folder().mkdir(parents=True, exist_ok=True)
    # `datasets` knows a file in its cache by the time stamp; a folder of our own can't give back old rows
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=".datasets-") as folder:
        try:
            if kind == "csv":
                # every cell as it stands: no guessing of numbers, and "NA" or "None" is a text like any other
                options = {"converters": dict.fromkeys(_header(path), str), "keep_default_na": False}
                data = Dataset.from_csv(
                    str(path), cache_dir=folder, keep_in_memory=True, encoding="utf-8-sig", **options
                )
            elif kind == "jsonl":
                data = Dataset.from_json(str(path), cache_dir=folder, keep_in_memory=True)
            else:
                data = Dataset.from_parquet(str(path), cache_dir=folder, keep_in_memory=True)
        except LimpetError:
            raise
        except Exception as error:  # the readers raise whatever pandas and Arrow raise
            raise _unreadable(kind, path, error) from error
    return data


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def _unreadable(kind: str, path: Path, error: Exception) -> DataError:
    hint = f"check the file, or name another: --data {kind}:PATH"
    if _has_no_rows(kind, path):
        return DataError(f"{path} has no rows: there is no example to learn from.", hint)
    if kind == "jsonl":
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line) if line.strip() else {}
                except json.JSONDecodeError as fault:
                    return DataError(f"{path} is not JSON lines: line {number}: {fault}.", hint)
                if not isinstance(row, dict):
                    return DataError(f"{path}: line {number} is not a JSON object with columns.", hint)
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    first = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    return DataError(f"{path} can't be read as {kind}: {first}", hint)


def _has_no_rows(kind: str, path: Path) -> bool:
    if kind == "parquet":
        from pyarrow import ArrowInvalid, parquet

        try:
            return int(parquet.read_metadata(path).num_rows) == 0
        except ArrowInvalid:
            return False
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = (line for line in file if line.strip())
        return next(itertools.islice(lines, 1 if kind == "csv" else 0, None), None) is None


# the hub


def _read_hub(rest: str) -> dict[str, tuple[str, Any]]:
    match = _HUB.fullmatch(rest)
    if not match:
        raise UsageError(
            f"'hub:{rest}' is not of the form hub:org/name[:config][@revision].",
            "--data hub:stanfordnlp/imdb",
        )
    with _quiet_datasets():
        splits = _load_hub(match["repo"], match["config"], match["revision"])
    return _choose_splits(f"hub:{rest}", splits)


def _load_hub(repo: str, config: str | None, revision: str | None) -> dict[str, Any]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        return dict(load_dataset(repo, config, revision=revision))
    except DatasetNotFoundError as error:
        raise NotFoundError(
            f"The hub has no dataset {repo!r} that can be read from here: {error}",
            "hf auth login, if it is private",
        ) from error
    except (ConnectionError, TimeoutError) as error:
        raise UnavailableError(
            f"The hub can't be reached for {repo!r}: {error}",
            "go online once, or use files: --data parquet:PATH",
        ) from error
    except (ValueError, RuntimeError, OSError) as error:
        raise DataError(
            f"The hub's dataset {repo!r} can't be read: {error}",
            f"--data hub:{repo}:CONFIG, or files: csv:PATH",
        ) from error


def _choose_splits(where: str, splits: dict[str, Any]) -> dict[str, tuple[str, Any]]:
    if "train" not in splits:
        if len(splits) > 1:
            raise DataError(
                f"{where} has no split called train; its splits are: {', '.join(splits)}.",
                "--data csv:train=PATH",
            )
        splits = {"train": next(iter(splits.values()))}
    parts = {"train": (where, splits["train"])}
    held_out = [name for name in ("test", "validation") if name in splits and _published(splits[name])]
    if held_out:
        parts["evaluation"] = (f"{where} ({held_out[0]})", splits[held_out[0]])
    if len(held_out) > 1:
        parts["validation"] = (f"{where} ({held_out[1]})", splits[held_out[1]])
    return parts


def _published(split: Any) -> bool:
    """Whether the split's class labels are there: benchmarks keep those of their test split back, as -1."""
    classes = [name for name, feature in split.features.items() if hasattr(feature, "names")]
    return len(split) > 0 and not any(max(split[name]) < 0 for name in classes)


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Keep the progress bars of `datasets` off a stderr that is not a terminal."""
    import datasets

    drawn = datasets.is_progress_bar_enabled() and not sys.stderr.isatty()
    if drawn:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if drawn:
            datasets.enable_progress_bars()
