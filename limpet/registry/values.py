"""What the registry keeps, as frozen values: the words of limpet, typed.

Times are ISO 8601 in UTC, digests are `sha256:` and 64 hex digits, sizes are bytes, seconds are wall-clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from limpet.registry.formats.html_table import html_fields, html_table
from limpet.registry.formats.json_values import JsonObject

__all__ = [
    "SERVED_AGREEMENT",
    "UNREADABLE_ANSWERS",
    "AbilityDraft",
    "AbilityRecord",
    "AliasEvent",
    "ArmDraft",
    "ArmRun",
    "BaseRecord",
    "Environment",
    "EvaluationDraft",
    "EvaluationKind",
    "EvaluationRecord",
    "FileEntry",
    "LogEvent",
    "Measurement",
    "Page",
    "Role",
    "SplitRecord",
    "StepRecord",
    "StreamRecord",
    "TaskDefinition",
    "TaskRecord",
    "Tombstone",
    "VersionDraft",
    "VersionRecord",
]

SERVED_AGREEMENT = "served_agreement"
"""Among a version's metrics: the share of its evaluation examples whose served answer is the measured one."""
UNREADABLE_ANSWERS = "unreadable_answers"
"""Among a version's metrics: how many evaluation answers its metric can't read, such as those that are no JSON."""
Role = Literal["adapter", "baseline"]
EvaluationKind = Literal["full", "audit", "elsewhere", "carried", "comparison"]
"""Of all examples of a task's split, of a sample of them, or of data that are not the version's own task.

`carried` is the score and the predictions of an earlier full evaluation, carried forward by an audit: nothing that
they depend on had changed, and the version's reference outputs, answered again, were the same bits. `comparison` is
of all examples on another form of the version's base, which it was not learned on.
"""
Item = TypeVar("Item")


@dataclass(frozen=True)
class FileEntry:
    """One file of a version: its flat name, the digest of its bytes and its size in bytes."""

    name: str
    digest: str
    size: int


@dataclass(frozen=True)
class BaseRecord:
    """The frozen pretrained model, known by its fingerprint.

    `name` is the SPEC it was added by; `digest` covers weights, config and tokenizer. `location` says how to
    find the files again: `{"kind": "sample" | "hub" | "folder" | "gguf", ...}`. `family` is `encoder`,
    `decoder` or `encoder-decoder`; `architecture` is transformers' `model_type`.
    """

    name: str
    digest: str
    weights_digest: str
    config_digest: str
    tokenizer_digest: str
    architecture: str
    family: str
    hidden_size: int
    parameters: int
    size: int
    location: JsonObject
    created_at: str


@dataclass(frozen=True)
class TaskDefinition:
    """How a task was defined; immutable once a version exists.

    Sizes count examples; `max_length` counts tokens. `options` are those of the task's type, such as the prompt that
    an answer is written after; most types have none.
    """

    name: str
    type: str
    data: str
    text_column: str
    target_column: str
    metric: str
    train_size: int | None
    eval_size: int | None
    split_seed: int
    max_length: int
    options: JsonObject = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class SplitRecord:
    """One split of a task's data, a blob of JSON lines: its digest and how many examples of each label.

    `name` is `train`, `validation` or `evaluation`; a revision that adds rows has them for evaluation in a split of
    their own, such as `evaluation-r2`.
    """

    name: str
    digest: str
    examples: int
    label_counts: Mapping[str, int]

    @property
    def since(self) -> int:
        """The revision that brought the split."""
        _, _, number = self.name.partition("-r")
        return int(number) if number.isdigit() else 1


@dataclass(frozen=True)
class TaskRecord:
    """A task, in one of its revisions: its definition, its label map (index = label id), its splits and the digest
    over all of them.

    `checks` holds what was found and removed while splitting: `{"exact_duplicates": n, "near_duplicates": n,
    "examples_read": n, "notes": [...]}`. `revision` counts from 1; `previous` is the data digest of the revision
    before. `removed` is null unless the task was removed since.
    """

    definition: TaskDefinition
    labels: tuple[str, ...]
    splits: tuple[SplitRecord, ...]
    data_digest: str
    checks: JsonObject
    created_at: str
    revision: int = 1
    previous: str | None = None
    removed: Tombstone | None = None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.definition.name

    def split(self, name: str) -> SplitRecord:
        """Return the split called `name`: `train`, `validation` or `evaluation`."""
        return next(split for split in self.splits if split.name == name)

    @property
    def reference(self) -> str:
        """`name@r2`: the task in this revision."""
        return f"{self.name}@r{self.revision}"

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split.name} {split.examples}" for split in self.splits)
        return f"<TaskRecord {self.reference}: {self.definition.type}, {len(self.labels)} labels, {sizes}>"

    def _repr_html_(self) -> str:
        rows = [(split.name, split.examples, split.digest) for split in self.splits]
        definition = self.definition
        title = f"{self.reference}: {definition.type}, scored by {definition.metric}, {definition.data}"
        return html_table(title, ("split", "examples", "digest"), rows)

    @property
    def evaluation_parts(self) -> tuple[SplitRecord, ...]:
        """What is evaluated, oldest first: the rows that always were, and those that each revision added."""
        return tuple(split for split in self.splits if split.name.startswith("evaluation"))


@dataclass(frozen=True)
class Environment:
    """All that may change the bits of a result without changing data or weights.

    `dtype` is what products are computed in, `activations` what layers pass on to each other: `float32`, or
    `bfloat16` where weights that are stored in it are computed in it.
    """

    python: str
    torch: str
    transformers: str
    peft: str
    limpet: str
    device: str
    dtype: str
    threads: int
    activations: str = "float32"

    def content(self) -> dict[str, str | int]:
        """Return it as it is recorded: as before there were other activations, where there are none."""
        content = dict(vars(self))
        if self.activations == "float32":
            del content["activations"]
        return content


@dataclass(frozen=True)
class VersionDraft:
    """A version about to be registered.

    What decides its identity (its digest) is the task, method, config, base, data, labels, seed and files;
    the rest is provenance. `parent` is the version that training started from, as `task@n`. `config` is the
    canonical JSON of the method with its resolved settings. `metrics` holds scores, each under the name of
    its definition; `cost` holds `trainable_parameters`, `trainable_share`, `train_seconds`,
    `examples_per_second`, `peak_memory_bytes`. `inputs` has digests of what the model read: of the token ids it was
    learned on (`train`, `validation`) and evaluated on (`evaluation`), and of the base's chat template.
    """

    task: str
    method: str
    config: JsonObject
    base_digest: str
    data_digest: str
    labels: tuple[str, ...]
    seed: int
    environment: Environment
    metrics: JsonObject
    cost: JsonObject
    parent: str | None = None
    role: Role = "adapter"
    lineage: JsonObject = field(default_factory=dict)
    inputs: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class Tombstone:
    """What is left to know of a deletion: when, by whom, and why."""

    created_at: str
    actor: str
    reason: str


@dataclass(frozen=True)
class VersionRecord:
    """One immutable adapter of one task, as registered; `deleted` is null unless it was deleted since.

    `inputs` is empty where it was registered before they were kept.
    """

    task: str
    number: int
    digest: str
    method: str
    config: JsonObject
    base_digest: str
    data_digest: str
    labels: tuple[str, ...]
    seed: int
    created_at: str
    aliases: tuple[str, ...]
    parent: str | None
    role: Role
    lineage: JsonObject
    metrics: JsonObject
    cost: JsonObject
    files: tuple[FileEntry, ...]
    environment: Environment
    deleted: Tombstone | None = None
    inputs: JsonObject = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """`task@number`."""
        return f"{self.task}@{self.number}"

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def __repr__(self) -> str:
        score = self.metrics.get("score")
        shown = "" if score is None else f", score {score:.4f}"
        aliases = f", {', '.join(self.aliases)}" if self.aliases else ""
        return f"<VersionRecord {self.reference}: {self.method}{shown}{aliases}>"

    def _repr_html_(self) -> str:
        score = self.metrics.get("score")
        pairs = (
            ("method", self.method),
            ("score", score),
            ("aliases", ", ".join(self.aliases) or None),
            ("parent", self.parent),
            ("created", self.created_at),
            ("bytes", f"{self.size:,}"),
            ("digest", self.digest),
        )
        return html_fields(self.reference, pairs)


@dataclass(frozen=True)
class AliasEvent:
    """One move of an alias: who, when, from which version to which, and why. Never changed, never deleted.

    `from_number` is null where the alias was not set before, `to_number` where it was taken off.
    """

    task: str
    alias: str
    action: Literal["promote", "rollback", "unpromote"]
    from_number: int | None
    to_number: int | None
    actor: str
    reason: str
    created_at: str


@dataclass(frozen=True)
class LogEvent:
    """One event of the home's log: who did what to what, when. Never changed, never deleted.

    `digest` covers the event, the rows that were written with it, and every event before it.
    """

    created_at: str
    actor: str
    action: str
    subject: str
    detail: JsonObject
    digest: str


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a pass over examples came to, and all that it depends on.

    `score` is the metric over the `examples`. `predictions_digest` names the blob with the predictions as canonical
    JSON, stored already; `logits_digest` covers the bytes of all outputs in the order of the batch plan, which
    `plan_digest` stands for. It took `seconds` on a clock.
    """

    metric: str
    score: float
    examples: int
    predictions_digest: str
    logits_digest: str
    plan_digest: str
    base_digest: str
    environment: Environment
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EvaluationDraft(Measurement):
    """An evaluation of a version's task that is about to be recorded; its fields are those of `EvaluationRecord`."""

    version: str
    state: str
    kind: EvaluationKind
    split: str
    data_digest: str
    rescored_from: int | None = None


@dataclass(frozen=True, kw_only=True)
class AbilityDraft(Measurement):
    """What an ability task found, about to be recorded; its fields are those of `AbilityRecord`."""

    probe: JsonObject
    head: str | None
    state: str | None
    after: str | None


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation of a task: which head, on which backbone state, on which data, in which order.

    `version` gives the head and label map; `state` gives the method's tensors. They differ only for arms
    whose later tasks change an earlier task's backbone. `predictions_digest` names the blob with the
    predictions, `plan_digest` the batch plan, `logits_digest` the bytes of all logits in plan order.
    `rescored_from` is the id of the evaluation whose kept predictions were held against corrected labels; null
    where the model was asked.
    """

    id: int
    task: str
    version: str
    state: str
    kind: EvaluationKind
    split: str
    metric: str
    score: float
    examples: int
    predictions_digest: str
    logits_digest: str
    plan_digest: str
    data_digest: str
    base_digest: str
    environment: Environment
    seconds: float
    created_at: str
    rescored_from: int | None = None


@dataclass(frozen=True)
class AbilityRecord:
    """What one ability task found.

    `probe` says what was asked, and on which data; equal probes have equal digests. `head` is the version whose head
    answered, null where the base's own words or class means did; `state` is the version whose weights were on the
    base, null for the base alone. `after` is set where the base alone was asked again: the version that had been
    taken off it last. `predictions_digest` names the blob with the answers, `logits_digest` their bytes.
    """

    id: int
    probe: JsonObject
    probe_digest: str
    head: str | None
    state: str | None
    after: str | None
    metric: str
    score: float
    examples: int
    predictions_digest: str
    logits_digest: str
    plan_digest: str
    base_digest: str
    environment: Environment
    seconds: float
    created_at: str


@dataclass(frozen=True)
class StreamRecord:
    """An ordered list of tasks with the arms that learn it; `spec` is the stream file as canonical JSON."""

    name: str
    spec: JsonObject
    digest: str
    base_digest: str
    tasks: tuple[str, ...]
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class ArmDraft:
    """An arm of a stream as it is asked for: its name, what it learns by, and the seed of this run."""

    name: str
    strategy: str
    method: str
    seed: int
    settings: JsonObject


@dataclass(frozen=True)
class ArmRun:
    """One arm of a stream under one seed. `sweep` keeps every candidate with its validation scores."""

    id: int
    stream: str
    name: str
    strategy: str
    method: str
    seed: int
    settings: JsonObject
    sweep: tuple[JsonObject, ...]
    chosen: JsonObject
    finished: bool


@dataclass(frozen=True)
class StepRecord:
    """One addition to an arm: the task learned, the version made, what it cost, and the row of evaluations.

    `row` maps a task's name to its evaluation after this step; a task that was not evaluated is absent.
    `base_unchanged` is null where the arm's method trains a copy of the base.
    """

    arm_run: int
    index: int
    task: str
    version: str
    base_unchanged: bool | None
    row: Mapping[str, EvaluationRecord]
    created_at: str


@dataclass(frozen=True)
class Page(Generic[Item]):
    """One page of a list, and the cursor of the next one (null on the last)."""

    items: tuple[Item, ...]
    cursor: str | None

    def _repr_html_(self) -> str:
        return html_table("", ("",), ((repr(item),) for item in self.items))
