"""Where a task's data comes from: a data SPEC read into texts and targets, split as its authors split it.

SPEC is `sample:NAME`, `hub:org/name[:config][@revision]`, or `csv:`, `jsonl:` or `parquet:` with one path or
with `train=PATH,eval=PATH` (and `validation=PATH`); the kind of files may be left out where their names say it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limpet.errors import DataError, NotFoundError, UnavailableError, UsageError
from limpet.registry.cache import scratch_folder
from limpet.training.base.hub_refusals import refusal
from limpet.training.data.reading.chat_forms import (
    ChatColumns,
    ChatRequest,
    ChatRows,
    DataFormat,
    chat_columns,
    notes_of,
    of_columns,
    said,
    shared_system,
)
from limpet.training.data.reading.csv_files import read_csv
from limpet.training.data.reading.data_spec import MEMORY, complete, split_paths
from limpet.training.data.reading.dataset_tables import of_dataset
from limpet.training.data.reading.encodings import fault_of_file
from limpet.training.data.reading.json_lines import read_json_lines
from limpet.training.data.reading.lazy import Lazy
from limpet.training.data.reading.memory import Rows
from limpet.training.data.reading.sample_corpora import corpus
from limpet.training.data.reading.tables import Table, check_names
from limpet.training.task_types import TaskType

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Pool", "Source", "SourceForm", "read_source"]

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[^@]+))?(?:@(?P<revision>\S+))?")
_CHATS = ("messages", "conversations")
"""Columns that hold a list of turns."""
_WORDS = ("words", "tokens")
"""Columns that hold a list of words."""
_LARGE = 1 << 24
"""From so many bytes on, a parquet file is not read into memory."""


@dataclass(frozen=True)
class Pool:
    """One part of a source as it was read: where from, and each row's text and target cell."""

    where: str
    texts: Sequence[Any]
    targets: Sequence[Any]


@dataclass(frozen=True)
class Source:
    """What a SPEC led to: the columns used and the parts there are (`train`, `evaluation`, `validation`).

    `class_names` are those of the targets in the data's own order, where it says them. `format` is the form that
    instruction data were found in, and `system` the system message of the task: what was asked for, or what all
    conversations share. Of conversations, `first_of_order` has the part and the
    place of the first one with each order of roles.
    """

    text_column: str
    target_column: str
    pools: dict[str, Pool]
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    format: DataFormat = "columns"
    system: str | None = None
    first_of_order: tuple[tuple[str, int], ...] = ()

    @property
    def has_turns(self) -> bool:
        """Whether its texts are conversations."""
        return bool(self.first_of_order)


@dataclass(frozen=True)
class SourceForm:
    """What a type of task asks of its data.

    Args:
        noun: What a target is called, `label` or `target`; also the option that names its column.
        text_columns: Usual names of the text column.
        chats: What is asked of conversations and other forms of instruction data; null where there can be none.
    """

    noun: str = "label"
    text_columns: Sequence[str] = TaskType.text_columns
    chats: ChatRequest | None = None


@dataclass(frozen=True)
class _Columns:
    """The columns that were asked for, null where none was, and how they are usually called."""

    text: str | None
    target: str | None
    texts: Sequence[str]
    targets: Sequence[str]
    noun: str
    chats: ChatRequest | None


@dataclass(frozen=True)
class _Part:
    """One part of a source before it is known which columns are used: `table` reads some of them."""

    where: str
    columns: Sequence[str]
    table: Callable[[Sequence[str]], Table]


def read_source(
    data: str | Rows,
    text_column: str | None,
    target_column: str | None,
    *,
    target_columns: Sequence[str],
    form: SourceForm | None = None,
) -> Source:
    """Read the data that a SPEC names, or that was given in Python.

    Args:
        data: The data SPEC as the user typed it, or rows.
        text_column: The column of the texts; null takes the first of `form.text_columns` that there is.
        target_column: The column of the targets; null takes the first of `target_columns` that there is.
        target_columns: Usual names of the target column for this type of task.
        form: What a type of task asks of its data; null takes what suits texts with labels.

    Raises:
        UsageError: The SPEC has another form.
        NotFoundError: There is no such sample, file or hub dataset.
        DataError: A file can't be read, or lacks the columns.
        UnavailableError: The hub or the package index can't be reached.
    """
    form = form or SourceForm()
    wanted = _Columns(text_column, target_column, form.text_columns, target_columns, form.noun, form.chats)
    if isinstance(data, Rows):
        return _source({name: _whole(data.where(name), table) for name, table in data.tables.items()}, (), wanted)
    kind, _, rest = complete(data).partition(":")
    if kind == "sample":
        return _source(*_sample(rest), wanted)
    if kind == "hub":
        with _quiet_datasets():
            return _source(_read_hub(rest), (), wanted)
    if kind == MEMORY:
        raise NotFoundError(
            f"The rows of {data} are not here: they are in the home they were given to.", "name files"
        )
    return _source(_read_files(kind, rest), (), wanted)


def _source(parts: Mapping[str, _Part], notes: tuple[str, ...], wanted: _Columns) -> Source:
    if wanted.chats is not None:
        columns = parts["train"].columns
        given = (wanted.text, wanted.target)
        if chat := chat_columns(columns, partial(_first_cell, parts["train"]), wanted.chats, given=given):
            return _chat_source(parts, notes, wanted.chats, columns=chat)
        text, target = said(wanted.chats.format, columns)
        wanted = replace(wanted, text=wanted.text or text, target=wanted.target or target)
    text, target = _choose_columns(parts["train"], wanted)
    pools = {}
    class_names: tuple[str, ...] = ()
    for name, part in parts.items():
        _choose_columns(part, replace(wanted, text=text, target=target))
        table = part.table((*_joined(text, part.columns), target))
        pools[name] = Pool(part.where, _texts(table.cells, text), table.cells[target])
        notes = (*notes, *table.notes)
        class_names = class_names or table.class_names.get(target, ())
    if wanted.chats is not None and of_columns(text, target) == "alpaca":
        notes = (*notes, *_unread(parts))
    form = "columns" if wanted.chats is None or wanted.chats.format == "columns" else of_columns(text, target)
    return Source(text, target, pools, notes, class_names, form, wanted.chats.system if wanted.chats else None)


def _unread(parts: Mapping[str, _Part]) -> list[str]:
    """Say what stands beside Alpaca's three columns and is not learned."""
    notes = []
    for name in ("history", "system"):
        cells = [cell for part in parts.values() if name in part.columns for cell in part.table([name]).cells[name]]
        if count := sum(cell not in (None, "", []) for cell in cells):
            notes.append(
                f"the column {name!r} is not read, which {count} rows fill: write them as messages to learn it"
            )
    return notes


def _chat_source(
    parts: Mapping[str, _Part], notes: tuple[str, ...], request: ChatRequest, *, columns: ChatColumns
) -> Source:
    """Return conversations, every row of which was checked."""
    rows = {}
    for name, part in parts.items():
        for column in (columns.text, columns.target):
            if column not in part.columns:
                raise DataError(
                    f"{part.where} has no column {column!r}, which the training data have; its columns are: "
                    f"{', '.join(map(repr, part.columns))}.",
                    "write all parts in one form",
                )
        rows[name] = ChatRows(part.where, part.table(columns.read(part.columns)), columns)
    system = request.system
    if system is None and request.hoists:
        system = shared_system(rows)
    for part_rows in rows.values():
        part_rows.without_system = system
    pools = {name: Pool(chats.where, chats.texts, chats.targets) for name, chats in rows.items()}
    notes = (*notes, *notes_of(rows, system))
    orders: dict[tuple[str, ...], tuple[str, int]] = {}
    for name, chats in rows.items():
        for order, at in chats.orders.items():
            orders.setdefault(order, (name, at))
    firsts = tuple(orders.values())
    return Source(columns.text, columns.target, pools, notes, (), columns.format, system, firsts)


def _first_cell(part: _Part, column: str) -> object:
    """Return the first cell of a column that has anything in it."""
    return next((cell for cell in part.table([column]).cells[column] if cell not in (None, "", [])), None)


def _sample(name: str) -> tuple[dict[str, _Part], tuple[str, ...]]:
    sample = corpus(name)
    parts = {}
    for part, rows in (("train", sample.train), ("evaluation", sample.evaluation)):
        if rows is not None:
            cells = {name: list(column) for name, column in zip(sample.columns, zip(*rows, strict=True), strict=True)}
            parts[part] = _whole(f"sample:{name}", Table(cells))
    return parts, sample.notes


def _whole(where: str, table: Table) -> _Part:
    return _Part(where, table.columns, lambda wanted: table)


def _of_dataset(where: str, data: Dataset) -> _Part:
    return _Part(where, data.column_names, lambda wanted: of_dataset(data, wanted))


def _choose_columns(part: _Part, wanted: _Columns) -> tuple[str, str]:
    chosen = []
    for asked, known, what in (
        (wanted.text, wanted.texts, "text"),
        (wanted.target, wanted.targets, wanted.noun),
    ):
        candidates = [asked] if asked else list(known)
        found = [
            name for name in candidates if name in part.columns or (what == "text" and _joined(name, part.columns))
        ]
        if not found:
            raise _no_column(part, asked, known, what=what, noun=wanted.noun)
        chosen.append(found[0])
    return chosen[0], chosen[1]


def _no_column(part: _Part, asked: str | None, known: Sequence[str], *, what: str, noun: str) -> DataError:
    chats = [name for name in _CHATS if name in part.columns]
    if chats and not asked:
        return DataError(
            f"{part.where} holds conversations: its column {chats[0]!r} has a list of turns in each row. Tasks of "
            "this type are read from rows of a text and a target.",
            "--type generation learns the answers of conversations",
        )
    named = f"no column {asked!r}" if asked else f"no {what} column (none of {', '.join(known)})"
    words = [name for name in _WORDS if name in part.columns] if what == "text" and not asked else []
    # the text is looked for first: where the target is missing, it was found
    hint = f"--text COL --{noun} COL" if what == "text" else f"--{noun} COL"
    return DataError(
        f"{part.where} has {named}; its columns are: {', '.join(map(repr, part.columns))}.",
        f"--type token-classification, if {words[0]!r} holds words" if words else hint,
    )


def _joined(text: str, columns: Sequence[str]) -> list[str]:
    """The columns that make up a text: `premise+hypothesis` stands for two, one a line; none where one is missing."""
    names = [text] if text in columns else text.split("+")
    return names if set(names) <= set(columns) else []


def _texts(cells: Mapping[str, Sequence[Any]], text: str) -> Sequence[Any]:
    if text in cells:
        return cells[text]
    columns = [cells[name] for name in text.split("+")]
    return Lazy(
        len(columns[0]),
        lambda at: _joint([column[at] for column in columns]),
        lambda: map(_joint, zip(*columns, strict=True)),
    )


def _joint(cells: Sequence[Any]) -> str:
    # an instruction that has no input ends where it ends
    return "\n".join("" if cell is None else str(cell) for cell in cells).rstrip("\n")


# files


def _read_files(kind: str, paths: str) -> dict[str, _Part]:
    parts = {}
    for name, path in split_paths(paths).items():
        if path.is_dir():
            raise NotFoundError(f"{path} is a folder; a task is read from files.", f"ls {path}")
        if not path.is_file():
            raise NotFoundError(f"There is no file {path}.", f"ls {path.parent}")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty: it has no bytes.", "name a file with at least two labels")
        if kind == "parquet":
            with _quiet_datasets():
                parts[name] = _of_dataset(str(path), _load_parquet(path))
            continue
        if fault := fault_of_file(path):
            raise DataError(f"{path} {fault.message}.", fault.hint)
        parts[name] = _whole(str(path), read_csv(path) if kind == "csv" else read_json_lines(path))
    return parts


def _load_parquet(path: Path) -> Dataset:
    from datasets import Dataset
    from pyarrow import ArrowException, parquet

    try:
        metadata = parquet.read_metadata(path)
        names = parquet.read_schema(path).names
    except (ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    check_names(str(path), names)
    if not metadata.num_rows:
        raise DataError(f"{path} has no rows: there is no example to learn from.", "name a file with examples")
    # `datasets` knows a file in its cache by the time stamp; a folder of our own can't give back old rows. What it
    # maps into memory stays there without the folder's entry
    large = path.stat().st_size > _LARGE
    with scratch_folder(".datasets-") as folder:
        try:
            return Dataset.from_parquet(str(path), cache_dir=folder, keep_in_memory=not large)
        except Exception as error:  # the reader raises whatever Arrow raises
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason: BaseException = error
    while reason.__cause__ is not None:
        reason = reason.__cause__
    first = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    return DataError(
        f"{path} can't be read as parquet: {first}", "check the file, or name another: --data parquet:PATH"
    )


# the hub


def _read_hub(rest: str) -> dict[str, _Part]:
    match = _HUB.fullmatch(rest)
    if not match:
        raise UsageError(
            f"'hub:{rest}' is not of the form hub:org/name[:config][@revision].",
            "--data hub:stanfordnlp/imdb",
        )
    return _choose_splits(f"hub:{rest}", _load_hub(match["repo"], match["config"], match["revision"]))


def _load_hub(repo: str, config: str | None, revision: str | None) -> dict[str, Any]:
    from datasets import load_dataset

    try:
        return dict(load_dataset(repo, config, revision=revision))
    except (ConnectionError, TimeoutError) as error:
        raise UnavailableError(
            f"The hub can't be reached for {repo!r}: {error}",
            "go online once, or use files: --data parquet:PATH",
        ) from error
    except (ValueError, RuntimeError, OSError) as error:
        unreadable = DataError(
            f"The hub's dataset {repo!r} can't be read: {error}",
            f"--data hub:{repo}:CONFIG, or files: csv:PATH",
        )
        raise (refusal(error, repo, dataset=True) or unreadable) from error


def _choose_splits(where: str, splits: dict[str, Any]) -> dict[str, _Part]:
    if "train" not in splits:
        if len(splits) > 1:
            raise DataError(
                f"{where} has no split called train; its splits are: {', '.join(splits)}.",
                "--data csv:train=PATH",
            )
        splits = {"train": next(iter(splits.values()))}
    parts = {"train": _of_dataset(where, splits["train"])}
    held_out = [name for name in ("test", "validation") if name in splits and _published(splits[name])]
    if held_out:
        parts["evaluation"] = _of_dataset(f"{where} ({held_out[0]})", splits[held_out[0]])
    if len(held_out) > 1:
        parts["validation"] = _of_dataset(f"{where} ({held_out[1]})", splits[held_out[1]])
    return parts


def _published(split: Dataset) -> bool:
    """Whether the split's class labels are there: benchmarks keep those of their test split back, as -1."""
    classes = [name for name, feature in split.features.items() if hasattr(feature, "names")]
    return len(split) > 0 and not any(max(split[name]) < 0 for name in classes)


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Keep the progress bars of `datasets` off a stderr that is not a terminal."""
    import datasets

    draws_bars = datasets.is_progress_bar_enabled() and not sys.stderr.isatty()
    if draws_bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if draws_bars:
            datasets.enable_progress_bars()
