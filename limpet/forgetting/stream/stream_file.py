"""A stream file: which tasks, in which order, learned by which arms, under which seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from limpet.errors import NotFoundError, UsageError
from limpet.forgetting import strategies
from limpet.forgetting.stream.published_figures import published_figures
from limpet.names import check_name, parse_task, recorded_method, renamed_method, shown_method
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.registry.records.streams import HOME_STREAM
from limpet.training.evaluation.harness.task_file import HarnessTask, from_record, read_task_file

__all__ = [
    "AbilitySpec",
    "ArmSpec",
    "StreamSpec",
    "TaskSpec",
    "order_name",
    "parse_stream",
    "read_stream",
    "ready_streams",
]

_STREAM_KEYS = {
    "name",
    "base",
    "tasks",
    "seeds",
    "training",
    "arms",
    "orders",
    "evaluate_future",
    "ability",
    "published",
}
_READY = Path(__file__).with_name("ready")
_RENAMED = "without is called disable now"
_TRAINING_KEYS = {
    "epochs": int,
    "max_length": int,
    "batch_size": int,
    "lr": float,
    "dtype": str,
    "optimizer": str,
    "disable": list,
}
_ARM_KEYS = {"name", "strategy", "method", "set", "sweep"}
_TASK_KEYS = {
    "name": str,
    "data": str,
    "type": str,
    "text": str,
    "label": str,
    "target": str,
    "metric": str,
    "train_size": int,
    "eval_size": int,
    "split_seed": int,
    "max_length": int,
    "format": str,
    "system": str,
}
_ABILITY_KEYS = {**_TASK_KEYS, "kind": str, "size": int, "template": str, "label_words": str}
_ABILITY_SIZES = {"perplexity": 100, "zero-shot": 200, "features": 200}
_HARNESS = "harness"
_HARNESS_KEYS = {"kind": str, "file": str, "size": int, "read": dict}


@dataclass(frozen=True)
class TaskSpec:
    """A task of the stream: its name, and its definition where the file gives one.

    `revision` is the one that the file names; null takes the newest there is when the stream begins.
    """

    name: str
    definition: Mapping[str, Any]
    revision: int | None = None


@dataclass(frozen=True)
class AbilitySpec:
    """An ability task: its kind, the task that gives its texts and is not learned, and how many are asked.

    `options` holds `template` and `label_words` where the file has them. `harness` is what a task file of the
    evaluation harness says, which brings its own texts; `task` only names it then, and null is all of them.
    """

    kind: str
    task: TaskSpec
    size: int | None
    options: Mapping[str, str]
    harness: HarnessTask | None = None


@dataclass(frozen=True)
class ArmSpec:
    """One way to learn the stream. `settings` and `sweep` hold keys of the loop (`lr`, ...) and of the method."""

    name: str
    strategy: str
    method: str
    settings: Mapping[str, Any]
    sweep: Mapping[str, tuple[Any, ...]]

    def candidates(self) -> list[dict[str, Any]]:
        """Every combination of the swept values; one empty candidate where nothing is swept."""
        keys = list(self.sweep)
        return [dict(zip(keys, values, strict=True)) for values in itertools.product(*self.sweep.values())]


@dataclass(frozen=True)
class StreamSpec:
    """A stream file, checked. `source` is its content, as it is kept with the stream.

    `orders` is how many orders of the tasks are learned, the file's own first; with `evaluate_future`, every task is
    also scored before it is learned. `ability` is asked before anything is learned, and after every step. `notes` say
    what the file names as it was called before. `training` and the arms' `settings` have `disable` as it is
    recorded, as `without`.
    """

    name: str
    base: str | None
    tasks: tuple[TaskSpec, ...]
    seeds: tuple[int, ...]
    training: Mapping[str, Any]
    arms: tuple[ArmSpec, ...]
    source: Mapping[str, Any]
    orders: int = 1
    evaluate_future: bool = False
    ability: tuple[AbilitySpec, ...] = ()
    notes: tuple[str, ...] = ()

    def in_order(self, number: int) -> StreamSpec:
        """Return the stream with its tasks in another order, under the first seed alone; number 1 is the file's own.

        The first seed decides the orders, and no two of them are the same.
        """
        if number == 1:
            return self
        order = _orders(len(self.tasks), self.orders, self.seeds[0])[number - 1]
        name = order_name(self.name, number)
        source = {key: value for key, value in self.source.items() if key != "orders"}
        source |= {"name": name, "tasks": [self.source["tasks"][place] for place in order], "seeds": [self.seeds[0]]}
        tasks = tuple(self.tasks[place] for place in order)
        return replace(self, name=name, tasks=tasks, seeds=self.seeds[:1], source=source, orders=1)


def order_name(stream: str, number: int) -> str:
    """Return the name of the stream that holds an order of a stream's tasks; 1 is the stream itself."""
    return stream if number == 1 else f"{stream}.order-{number}"


def _orders(count: int, wanted: int, seed: int) -> list[tuple[int, ...]]:
    import numpy as np

    generator = np.random.default_rng([seed, count])
    found = [tuple(range(count))]
    while len(found) < wanted:
        order = tuple(int(place) for place in generator.permutation(count))
        if order not in found:
            found.append(order)
    return found


def ready_streams() -> tuple[str, ...]:
    """Return the names of the streams that limpet brings along, sorted."""
    return tuple(sorted(file.stem for file in _READY.glob("*.yaml")))


def read_stream(path: Path) -> StreamSpec:
    """Read and check a stream file.

    Args:
        path: The file; where there is none, the name of a ready stream.

    Raises:
        NotFoundError: There is no such file.
        UsageError: It is not YAML, or says something that a stream has not.
    """
    if str(path) in ready_streams() and not path.exists():
        path = _READY / f"{path}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(
            f"There is no stream file {str(path)!r}, and the ready streams are {', '.join(ready_streams())}.",
            "limpet stream run five-topics",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        hint = "check it against docs/guides/streams.md"
        raise UsageError(f"{path} can't be read as YAML: {error}", hint) from error
    return parse_stream(content, path.parent)


def parse_stream(content: JsonValue, folder: Path | None = None) -> StreamSpec:
    """Check the content of a stream file.

    Args:
        content: What the file says, or what was kept of it.
        folder: Where the file is: task files of the evaluation harness are named from there, and read. Without it,
            they are what was kept of them, enough to look up what was found.

    Raises:
        NotFoundError: A task file of the evaluation harness or its data are not there.
        UsageError: It says something that a stream has not; the message names the key.
    """
    top = _mapping("the stream", content, _STREAM_KEYS)
    name = check_name("stream", str(_required("the stream", top, "name")))
    if name == HOME_STREAM:
        raise _wrong(f"the name {name!r} belongs to the home's own growth.", "choose another name")
    task_list = _list("tasks", _required("the stream", top, "tasks"))
    tasks = tuple(_task(item) for item in task_list)
    arms = tuple(_arm(item) for item in _list("arms", _required("the stream", top, "arms")))
    for kind, names in (("task", [task.name for task in tasks]), ("arm", [arm.name for arm in arms])):
        repeated = sorted({n for n in names if names.count(n) > 1})
        if repeated:
            raise _wrong(f"the {kind} {repeated[0]!r} stands twice.", f"give every {kind} once")
    listed = _list("seeds", top.get("seeds", [0]))
    seeds = [seed for seed in listed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**31]
    if len(seeds) < len(listed):
        raise _wrong(f"seeds must be whole numbers from 0, not {listed}.", "seeds: [0, 1, 2]")
    if len(set(seeds)) < len(seeds):
        raise _wrong(f"a seed stands twice in {seeds}.", "seeds: [0, 1, 2]")
    training, notes = _training(top.get("training") or {})
    notes += [note for item in _list("arms", top["arms"]) if isinstance(item, dict) for note in _arm_notes(item)]
    base = top.get("base")
    orders, future = _orders_wanted(name, top, len(tasks)), top.get("evaluate_future", False)
    if not isinstance(future, bool):
        raise _wrong(f"evaluate_future must be true or false, not {future!r}.", "evaluate_future: true")
    published_figures(top)
    ability = _ability(top, tasks, folder)
    if ability:
        top |= {"ability": [_kept(item, one) for item, one in zip(top["ability"], ability, strict=True)]}
    return StreamSpec(
        name=name,
        base=str(base) if base else None,
        tasks=tasks,
        seeds=tuple(seeds),
        training=training,
        arms=arms,
        source=top,
        orders=orders,
        evaluate_future=future,
        ability=ability,
        notes=tuple(dict.fromkeys(notes)),
    )


def _training(content: JsonValue) -> tuple[JsonObject, list[str]]:
    """Return the stream's `training` as it is recorded, with notes about names of before."""
    renamed = isinstance(content, dict) and "without" in content
    kinds = _TRAINING_KEYS | ({"without": list} if renamed else {})
    return _recorded(_typed("training", content, kinds)), [_RENAMED] if renamed else []


def _arm_notes(content: JsonObject) -> Iterator[str]:
    if note := renamed_method(str(content.get("method"))):
        yield note
    if any("without" in (content.get(key) or ()) for key in ("set", "sweep")):
        yield _RENAMED


def _recorded(settings: JsonObject) -> JsonObject:
    """Return settings with the key by which streams were recorded before it had its name of now."""
    return {"without" if key == "disable" else key: value for key, value in settings.items()}


def _ability(top: JsonObject, tasks: tuple[TaskSpec, ...], folder: Path | None) -> tuple[AbilitySpec, ...]:
    if "ability" not in top:
        return ()
    ability_tasks = tuple(_ability_task(item, folder) for item in _list("ability", top["ability"]))
    learned = {task.name for task in tasks}
    asked: set[tuple[str, str]] = set()
    for ability_task in ability_tasks:
        name = ability_task.task.name
        if name in learned and ability_task.harness is None:
            raise _wrong(f"ability asks about {name!r}, which the stream learns.", "name a task that is held back")
        if (ability_task.kind, name) in asked:
            raise _wrong(
                f"the ability task {ability_task.kind!r} on {name!r} stands twice.", "give every ability task once"
            )
        asked.add((ability_task.kind, name))
    return ability_tasks


def _kept(item: JsonObject, ability_task: AbilitySpec) -> JsonObject:
    """Return an ability task as it is kept: of a task file, what it says, so that a changed one is another stream."""
    return item if ability_task.harness is None else {**item, "read": ability_task.harness.record}


def _harness_task(item: JsonValue, folder: Path | None) -> AbilitySpec:
    content = _typed("an ability task", item, _HARNESS_KEYS)
    file, size = str(_required("an ability task", content, "file")), content.get("size")
    if size is not None and size < 2:
        raise _wrong(f"an ability task needs a size of 2 or more, not {size}.", "size: 100")
    if folder is not None and "read" in content:
        raise _wrong("an ability task has an unknown key 'read'.", "the keys are file, kind, size")
    if folder is None and "read" not in content:
        raise _wrong(f"there is no saying where {file!r} is.", "give the stream as a file")
    task = from_record(content["read"], size) if folder is None else read_task_file(folder / file, size)
    return AbilitySpec(_HARNESS, TaskSpec(task.name, {}), size, {}, task)


def _ability_task(item: JsonValue, folder: Path | None) -> AbilitySpec:
    if isinstance(item, dict) and item.get("kind") == _HARNESS:
        return _harness_task(item, folder)
    content = _typed("an ability task", item, _ABILITY_KEYS)
    kind = str(_required("an ability task", content, "kind"))
    if kind not in _ABILITY_SIZES:
        kinds = ", ".join((*_ABILITY_SIZES, _HARNESS))
        raise _wrong(f"there is no ability task {kind!r}; there are {kinds}.", "kind: perplexity")
    size = content.get("size", _ABILITY_SIZES[kind])
    if size < 2:
        raise _wrong(f"an ability task needs a size of 2 or more, not {size}.", f"size: {_ABILITY_SIZES[kind]}")
    options: dict[str, str] = {key: content[key] for key in ("template", "label_words") if key in content}
    if options and kind != "zero-shot":
        raise _wrong(f"the ability task {kind!r} has no {next(iter(options))!r}.", "kind: zero-shot")
    return AbilitySpec(
        kind, _task({key: value for key, value in content.items() if key in _TASK_KEYS}), size, options
    )


def _orders_wanted(name: str, top: JsonObject, tasks: int) -> int:
    orders = top.get("orders", 1)
    if not isinstance(orders, int) or isinstance(orders, bool) or orders < 1:
        raise _wrong(f"orders must be a whole number from 1, not {orders!r}.", "orders: 3")
    if orders > math.factorial(tasks):
        raise _wrong(f"{tasks} tasks have fewer than {orders} orders.", f"orders: {math.factorial(tasks)}")
    check_name("stream", order_name(name, orders))
    return orders


def _task(item: JsonValue) -> TaskSpec:
    if isinstance(item, str):
        name, revision = parse_task(item)
        return TaskSpec(name, {}, revision)
    content = _typed("a task", item, _TASK_KEYS)
    name, revision = parse_task(str(_required("a task", content, "name")))
    definition = {key: value for key, value in content.items() if key != "name"}
    if definition and revision is not None:
        raise _wrong(
            f"task {name!r} has a definition, and a revision beside it.", f"name it {name}@r{revision} alone"
        )
    return TaskSpec(name, definition, revision)


def _arm(item: JsonValue) -> ArmSpec:
    content = _mapping("an arm", item, _ARM_KEYS)
    name = check_name("arm", str(_required("an arm", content, "name")))
    strategy = str(_required(f"arm {name!r}", content, "strategy"))
    given = None if content.get("method") is None else recorded_method(str(content["method"]))
    method = strategies.get(strategy).method or given or str(_required(f"arm {name!r}", content, "method"))
    if given not in (None, method):
        only = shown_method(method)
        raise _wrong(
            f"arm {name!r} has the method {content['method']!r}; its strategy {strategy!r} knows only {only!r}.",
            f"method: {only}",
        )
    sweep = _mapping(f"sweep of arm {name!r}", content.get("sweep") or {}, None)
    return ArmSpec(
        name,
        strategy,
        method,
        _recorded(
            {
                key: _number(value)
                for key, value in _mapping(f"set of arm {name!r}", content.get("set") or {}, None).items()
            }
        ),
        {
            key: tuple(_number(value) for value in _list(f"sweep {key}", values))
            for key, values in _recorded(sweep).items()
        },
    )


def _number(value: JsonValue) -> JsonValue:
    # YAML 1.1 reads 1e-3 as a string: it wants 1.0e-3
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _typed(what: str, content: JsonValue, kinds: Mapping[str, type]) -> JsonObject:
    checked = _mapping(what, content, set(kinds))
    for key, value in checked.items():
        value = _number(value) if kinds[key] is float else value
        if kinds[key] is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise _wrong(f"{key} in {what} must be {kinds[key].__name__}, not {value!r}.", f"{key}: ...")
        checked[key] = value
    return checked


def _mapping(what: str, content: JsonValue, keys: set[str] | None) -> JsonObject:
    if not isinstance(content, dict):
        raise _wrong(f"{what} must be a mapping, not {content!r}.", "key: value")
    unknown = sorted(str(key) for key in content if keys is not None and key not in keys)
    if unknown:
        raise _wrong(f"{what} has an unknown key {unknown[0]!r}.", f"the keys are {', '.join(sorted(keys or ()))}")
    return {str(key): value for key, value in content.items()}


def _list(what: str, content: JsonValue) -> list[JsonValue]:
    if not isinstance(content, list) or not content:
        raise _wrong(f"{what} must be a list with at least one entry, not {content!r}.", f"{what}: [...]")
    return content


def _required(what: str, content: JsonObject, key: str) -> JsonValue:
    value: JsonValue = content.get(key)
    if value is None:
        raise _wrong(f"{what} has no {key!r}.", f"{key}: ...")
    return value


def _wrong(message: str, hint: str) -> UsageError:
    return UsageError(f"The stream file is wrong: {message}", hint)
