"""A task file of the evaluation harness, read as data: nothing of it is run, and nothing is fetched for it.

lm-eval's own reader imports what `!function` names, and its loader of data sets asks the hub for what is not a file.
So a file is read here, with what it includes, and whatever could run code or go online is refused before lm-eval sees
it. What it says and the digests of its data decide the question; the folder only says where they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.registry.formats.canonical import digest_file, digest_json
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.training.evaluation.harness.task_keys import OUTPUT_TYPES, RUNS_CODE, checked_config
from limpet.training.metrics.ability import AGGREGATIONS

__all__ = ["HarnessTask", "from_record", "read_task_file"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FORMATS = ("json", "csv", "parquet", "text")
_READING = {"data_files", "field", "sep", "delimiter", "column_names"}
_LOCAL = "dataset_path: json, dataset_kwargs: {data_files: {test: rows.jsonl}}"


@dataclass(frozen=True)
class HarnessTask:
    """A task of the evaluation harness, as a question to the base.

    Args:
        config: What lm-eval is told, with the data files as the file names them.
        data: The digest of every data file, by its name there.
        size: How many documents are asked, the first ones; null for all.
        folder: Where the data files are; null where only what was found is asked for.
    """

    config: JsonObject
    data: Mapping[str, str]
    size: int | None = None
    folder: Path | None = None

    @property
    def kind(self) -> str:
        """The kind of ability task that it is."""
        return "harness"

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.config["task"])

    @property
    def metric(self) -> str:
        """The name of what is measured: the first metric of the file, else the usual one."""
        if self.config.get("metric_list"):
            return str(self.config["metric_list"][0]["metric"])
        return OUTPUT_TYPES[self.config["output_type"]]

    @property
    def identity(self) -> JsonObject:
        """All that decides the question, as JSON."""
        return {
            "kind": self.kind,
            "task": self.name,
            "config": digest_json(self.config),
            "data": dict(self.data),
            "size": self.size,
        }

    @property
    def record(self) -> JsonObject:
        """The task as a stream keeps it: what it says, and the digests of its data."""
        return {"config": self.config, "data": dict(self.data)}

    def files(self) -> dict[str, list[str]]:
        """Return the paths of the data files of each split, as they are now.

        Raises:
            NotFoundError: A file is not there.
            IntegrityError: It is another than when the task file was read.
        """
        assert self.folder is not None
        for name, digest in self.data.items():
            if _digest(self.folder, name) != digest:
                raise IntegrityError(
                    f"The data file {name!r} of the task {self.name!r} changed since its task file was read.",
                    "type the command again",
                )
        splits = _splits(self.config)
        return {split: [str(self.folder / name) for name in names] for split, names in splits.items()}


def read_task_file(path: Path, size: int | None = None) -> HarnessTask:
    """Read a task file of the evaluation harness, with what it includes, and check that it is nothing but data.

    Args:
        path: The YAML file. What it includes lies in its folder; data files are named from there.
        size: How many documents are to be asked; null for all.

    Raises:
        NotFoundError: The file, one that it includes or a data file is not there.
        UsageError: It is no YAML, runs code, wants what is not local, or says what an ability task has not.
    """
    config = checked_config(str(path), _merged(path, path.parent, seen=()))
    if not _NAME.fullmatch(str(config["task"])):
        _refuse(path, f"{config['task']!r} is no name of a task", "letters, digits, dots, dashes and underscores")
    if config["output_type"] not in OUTPUT_TYPES:
        _refuse(path, f"there is no output_type {config['output_type']!r}", f"one of {', '.join(OUTPUT_TYPES)}")
    _check_data(path, config)
    names = [name for split in _splits(config).values() for name in split]
    data = {name: _digest(path.parent, name) for name in dict.fromkeys(names)}
    task = HarnessTask(config, data, size, path.parent)
    if task.metric not in AGGREGATIONS:
        _refuse(
            path,
            f"its first metric {task.metric!r} is none of single documents, so that a change of it has no interval",
            f"metric_list: [{{metric: M}}], with one of {', '.join(AGGREGATIONS)}",
        )
    return task


def from_record(record: JsonObject, size: int | None) -> HarnessTask:
    """Return a task that a stream has kept, to look up what was found of it."""
    return HarnessTask(record["config"], record["data"], size)


def _merged(path: Path, folder: Path, *, seen: tuple[Path, ...]) -> JsonObject:
    """Read a file with what it includes below its own keys, as lm-eval merges them."""
    here = path.resolve()
    if here in seen:
        _refuse(path, "it includes itself", "take the include out")
    if not here.is_relative_to(folder.resolve()):
        _refuse(path, "it is included from outside the task file's folder", f"put it into {folder}")
    content = _load(path)
    included = content.pop("include", [])
    merged: JsonObject = {}
    for name in included if isinstance(included, list) else [included]:
        merged |= _merged(path.parent / str(name), folder, seen=(*seen, here))
    return merged | content


def _load(path: Path) -> JsonObject:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"There is no task file {str(path)!r}.", "name a YAML file of lm-eval") from None
    except yaml.constructor.ConstructorError as error:
        _refuse(path, f"it runs code ({error.problem})", "write it without tags such as !function")
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} can't be read as YAML: {error}", "name a YAML file of lm-eval") from error
    if not isinstance(content, dict):
        _refuse(path, "it is no mapping", "task: NAME")
    return {str(key): value for key, value in content.items()}


def _check_data(path: Path, config: JsonObject) -> None:
    source, reading = config.get("dataset_path"), config.get("dataset_kwargs") or {}
    if source not in _FORMATS:
        _refuse(
            path,
            f"its data are {source!r}, which is none of {', '.join(_FORMATS)}: nothing is fetched for a task file",
            _LOCAL,
        )
    if config.get("dataset_name") is not None:
        _refuse(path, "local files have no dataset_name", _LOCAL)
    unknown = sorted(set(reading) - _READING) if isinstance(reading, dict) else ["dataset_kwargs"]
    if unknown:
        why = "runs code" if unknown[0] in RUNS_CODE else "is not read here"
        _refuse(path, f"{unknown[0]!r} of its dataset_kwargs {why}", f"there are {', '.join(sorted(_READING))}")
    if not _splits(config):
        _refuse(path, "it names no data_files", _LOCAL)
    splits = [config.get(f"{split}_split") for split in ("test", "validation")]
    if not any(split in _splits(config) for split in splits):
        _refuse(path, "its test_split or validation_split is none of its data_files", "test_split: test")


def _splits(config: JsonObject) -> dict[str, list[str]]:
    """Return the names of the data files of each split; without splits, they are `train`, as `datasets` has it."""
    files: JsonValue = (config.get("dataset_kwargs") or {}).get("data_files")
    by_split = files if isinstance(files, dict) else {"train": files} if files else {}
    return {
        str(split): [str(name) for name in (names if isinstance(names, list) else [names])]
        for split, names in by_split.items()
    }


def _digest(folder: Path, name: str) -> str:
    if "://" in name:
        raise UsageError(f"The data file {name!r} of a task file is not local, and nothing is fetched.", _LOCAL)
    path = folder / name
    if not path.is_file():
        raise NotFoundError(f"There is no data file {str(path)!r}.", "name it from the task file's folder")
    return digest_file(path)


def _refuse(path: Path, why: str, hint: str) -> NoReturn:
    raise UsageError(f"The task file {str(path)!r} can't be asked: {why}.", hint)
