"""A version evaluated on data that are not its own task's: another task's rows, or rows that somebody brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from limpet.errors import UsageError
from limpet.first_few import first_few
from limpet.forgetting.metrics.intervals import Interval, score_interval
from limpet.forgetting.monitor.monitor import KeptAs, Measured, Part, measure_examples, record_evaluation
from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import EvaluationRecord, SplitRecord, TaskRecord, VersionRecord
from limpet.training.base.backbone import Backbone
from limpet.training.batching.examples import Example, flat_text
from limpet.training.data.duplicates import normalise
from limpet.training.data.reading.data_spec import complete
from limpet.training.data.revise_task import read_more
from limpet.training.data.splitter import Splitter
from limpet.training.data.stored_splits import make_split, parse_examples, read_split
from limpet.training.model.task_model import Answering, version_files
from limpet.training.progress import SILENT, Progress
from limpet.training.task_types import metric as find_metric
from limpet.training.task_types import task_type

__all__ = ["Elsewhere", "Rows", "evaluate_elsewhere", "rows_of_data", "rows_of_task"]


@dataclass(frozen=True)
class Rows:
    """Rows to evaluate on: where they are from, and their examples under the label map of `task`.

    `task` says by which metric they are scored; `notes` what was left out of them.
    """

    source: JsonObject
    task: TaskRecord
    examples: tuple[Example, ...]
    split: SplitRecord
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Elsewhere:
    """An evaluation on other data: its record, where the data are from, and what has to be known of the score.

    `interval` is a bootstrap interval over examples, null where the metric has none. `trained_on` counts the rows
    whose text the version was trained on, `unknown` those whose label it does not know: they are wrong.
    """

    evaluation: EvaluationRecord
    source: JsonObject
    interval: Interval | None
    trained_on: int
    unknown: int
    notes: tuple[str, ...]


def rows_of_task(store: Store, version: VersionRecord, name: str) -> Rows:
    """Return the evaluation rows of a task, `name` or `name@r2`, for a version of another.

    Raises:
        NotFoundError: There is no such task.
        UsageError: It is the version's own, of another type, or shares no label with the version.
    """
    task, own = tasks.get(store, name), tasks.of_version(store, version)
    kind, other = own.definition.type, task.definition.type
    if task.name == version.task:
        raise UsageError(
            f"{version.reference} is a version of {task.name!r} itself.", f"limpet evaluate {version.reference}"
        )
    if kind != other:
        raise UsageError(
            f"{version.reference} was learned for {kind}, and the task {task.name!r} is of type {other}.",
            f"limpet adapter list --task {task.name}",
        )
    if task.labels and not set(task.labels) & set(version.labels):
        raise UsageError(
            f"{version.reference} answers {first_few(map(repr, version.labels))}, and {task.name!r} has others: "
            f"{first_few(map(repr, task.labels))}.",
            "name a task that has some of its labels",
        )
    examples = [example for split in task.evaluation_parts for example in read_split(store, task, split.name)]
    digests = [split.digest for split in task.evaluation_parts]
    digest = digests[0] if len(digests) == 1 else digest_bytes(canonical_json(digests))
    split = SplitRecord("evaluation", digest, len(examples), {})
    return Rows({"task": task.reference}, task, tuple(examples), split)


def rows_of_data(
    store: Store, version: VersionRecord, spec: str, *, columns: tuple[str | None, str | None] = (None, None)
) -> Rows:
    """Read the rows that a data SPEC names, each text once; those for evaluation, where the data say so.

    Args:
        store: The open home.
        version: The version that is to answer them.
        spec: The data SPEC.
        columns: Those of the texts and of the targets; null takes what the task's own are called.

    Raises:
        UsageError: The SPEC has another form.
        NotFoundError: There is no such data.
        DataError: The data can't be read, or lack the columns.
    """
    task = tasks.of_version(store, version)
    kind = task_type(task.definition.type)
    spec = complete(spec)
    source = read_more(task, spec, columns)
    if "evaluation" in source.pools:
        source = replace(source, pools={"train": source.pools["evaluation"]})
    splitter = Splitter(source, kind, 0, near_duplicates="keep")
    given = [label for row in splitter.rows for label in kind.labels_of(row.target)]
    labels = (*version.labels, *dict.fromkeys(label for label in given if label not in version.labels))
    rows = [(row.text, row.target) for row in splitter.rows]
    split, content = make_split(kind, "evaluation", rows, labels=labels)
    examples = tuple(parse_examples(kind, content))
    why = {"exact_duplicates": "their text stands there already", "empty_texts": "they have no text"}
    notes = [f"{count} rows are left out: {why[key]}" for key in why if (count := splitter.checks[key])]
    return Rows({"data": spec}, replace(task, labels=labels), examples, split, (*source.notes, *notes))


def evaluate_elsewhere(
    store: Store, backbone: Backbone, version: VersionRecord, *, rows: Rows, progress: Progress = SILENT
) -> Elsewhere:
    """Evaluate a version on other data, and keep that as an evaluation that stands in no score matrix.

    Raises:
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    files = version_files(store, backbone, version)
    answering = Answering(version.method, files, files, int(version.config["max_length"]), version.labels)
    part = Part(task=rows.task, bypass_cache=True)
    measured = measure_examples(
        backbone, rows.examples, answering=answering, part=part, split=rows.split, progress=progress
    )
    evaluation = record_evaluation(
        store, backbone, version, state=version, measured=measured, kept=KeptAs("elsewhere", {"source": rows.source})
    )
    return Elsewhere(
        evaluation=evaluation,
        source=rows.source,
        interval=_interval(measured),
        trained_on=_trained_on(store, version, rows.examples),
        unknown=_unknown(version, rows.task, measured),
        notes=rows.notes,
    )


def _interval(measured: Measured) -> Interval | None:
    if find_metric(measured.metric).counts is None:
        return None
    return score_interval(measured.metric, measured.predictions, measured.targets)


def _trained_on(store: Store, version: VersionRecord, examples: Sequence[Example]) -> int:
    task = tasks.of_version(store, version)
    known = {normalise(flat_text(example.text)) for example in read_split(store, task, "train")}
    return sum(normalise(flat_text(example.text)) in known for example in examples)


def _unknown(version: VersionRecord, task: TaskRecord, measured: Measured) -> int:
    """Count the rows with a label that the version can't answer."""
    if not task.labels:
        return 0
    kind, known = task_type(task.definition.type), set(version.labels)
    stored = (list(target) if isinstance(target, tuple) else target for target in measured.targets)
    return sum(bool(set(kind.labels_of(kind.plain(target, task.labels))) - known) for target in stored)
