"""A benchmark of methods: each learns the same task on the same base, one after the other.

Nothing is registered unless asked: a benchmark measures methods, and three seeds of nine of them would leave
twenty-seven versions behind, three whole checkpoints among them, and gaps in the task's numbers. What was measured is
kept as JSON in the home's folder `bench`, run by run, so that an interrupted benchmark goes on; a run at hand goes on
from its checkpoint. Run folders lie there too, out of the way of `limpet train --resume`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from limpet.errors import IntegrityError, InterruptedRunError, LimpetError, UsageError
from limpet.forgetting.bench.values import Bench, MethodRow, MethodRun
from limpet.forgetting.metrics.intervals import score_interval
from limpet.forgetting.monitor.growth import register_measured
from limpet.forgetting.monitor.monitor import measure_candidate, pooled
from limpet.registry.formats.canonical import digest_json
from limpet.registry.store import Store
from limpet.registry.system.atomic_files import whole_file
from limpet.registry.values import Environment, TaskRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.environment import current_environment
from limpet.training.evaluation.latency import LONG_SECONDS
from limpet.training.learning.learn import learn
from limpet.training.learning.runs.run_folder import discard
from limpet.training.learning.runs.run_lock import alone_in
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from limpet.training.progress import SILENT, Progress

__all__ = ["BenchSpec", "run_bench"]

# what a method or torch may raise for a base that it does not suit, an exhausted memory among them
_FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class BenchSpec:
    """What to compare: methods (None means all with a module of their own), seeds, epochs, settings by method.

    A setting is one of the method, or of the loop: `lr`, `epochs`, `batch_size`, `max_length`, `dtype`. `register`
    keeps every result as a version with the role `baseline`.
    """

    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    epochs: int = 3
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    register: bool = False

    def names(self) -> tuple[str, ...]:
        """Return the methods to compare.

        Raises:
            UsageError: A method stands twice, is unknown, or has settings without being compared.
        """
        chosen = self.methods or tuple(name for name in methods.names() if ":" not in name)
        if len(set(chosen)) < len(chosen) or len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise UsageError("Every method and every seed stands once, and there is a seed.", "--seeds 0,1,2")
        names = tuple(methods.get(name).name for name in chosen)
        if strangers := sorted(set(self.settings) - set(names)):
            raise UsageError(
                f"There are settings for {strangers[0]!r}, which is not compared; compared are {', '.join(names)}.",
                f"--methods {','.join((*names, strangers[0]))}",
            )
        return names


def run_bench(
    store: Store,
    backbone: Backbone,
    task: TaskRecord,
    *,
    spec: BenchSpec,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Bench:
    """Let every method learn the task under every seed, and measure scores and cost.

    Args:
        store: The home's registry.
        backbone: The base in memory; it is loaded once for all methods.
        task: What is learned.
        spec: What to compare.
        resume: Keep what an interrupted benchmark of the task has measured under these very conditions.
        progress: Receives every run and every step.

    Returns:
        The benchmark; a method that failed has its reason in place of results.

    Raises:
        UsageError: There is no such method.
        ConflictError: Another process is at a benchmark of the task.
        InterruptedRunError: A signal came; the same command with `resume` goes on.
        IntegrityError: The base was changed.
    """
    names = spec.names()
    folder = store.path / "bench" / task.name
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, f"Another process is at a benchmark of {task.name!r}."):
        if not resume:
            shutil.rmtree(folder / "runs", ignore_errors=True)
        run = _Run(store, replace(store, path=folder), backbone, task, spec, resume, progress)
        rows = []
        for index, name in enumerate(names):
            progress.note(f"{name} ({index + 1} of {len(names)})")
            rows.append(_measure_method(run, name))
    return Bench(
        task=task.name,
        type=task.definition.type,
        metric=task.definition.metric,
        train_examples=task.split("train").examples,
        eval_examples=task.split("evaluation").examples,
        data_digest=task.data_digest,
        base=backbone.record.name,
        base_digest=backbone.record.digest,
        epochs=spec.epochs,
        seeds=spec.seeds,
        settings=spec.settings,
        rows=tuple(rows),
    )


@dataclass(frozen=True)
class _Run:
    """What every run of one benchmark needs; `scratch` is the registry with the benchmark's own run folders."""

    store: Store
    scratch: Store
    backbone: Backbone
    task: TaskRecord
    spec: BenchSpec
    resume: bool
    progress: Progress


def _measure_method(run: _Run, name: str) -> MethodRow:
    runs: list[MethodRun] = []
    for seed in run.spec.seeds:
        try:
            found = _measure(run, name, seed)
        except (InterruptedRunError, IntegrityError):
            raise
        except (LimpetError, *_FAILURES) as error:
            reason = _reason(error)
            run.progress.note(f"{name} (seed {seed}) failed: {reason}")
            return MethodRow(name, tuple(runs), reason)
        runs.append(found)
        run.progress.note(f"{name} (seed {seed}) {run.task.definition.metric} {found.score:.3f}")
    return MethodRow(name, tuple(runs))


def _measure(run: _Run, name: str, seed: int) -> MethodRun:
    methods.get_for(name, run.backbone.record)
    settings = TrainingSettings.of(name, {"epochs": run.spec.epochs, **run.spec.settings.get(name, {})}, seed)
    file = run.scratch.path / f"{_key(run, settings)}.json"
    kept = _read(file) if run.resume else None
    if kept is not None and (kept.version is not None or not run.spec.register):
        return kept
    training = TrainingRun(
        run.scratch, run.backbone, run.task, settings, lineage={"bench": run.task.name}, progress=run.progress
    )
    staged = learn(training, resume=run.resume)
    draft, measured = measure_candidate(
        run.store,
        run.backbone,
        staged.draft,
        files=staged.files,
        timed_seconds=LONG_SECONDS,
        progress=run.progress,
    )
    version = None
    if run.spec.register:
        draft = replace(draft, role="baseline")
        version = register_measured(
            run.store, run.backbone, draft, files=staged.files, measured=measured
        ).version.reference
    metric = run.task.definition.metric
    result = MethodRun(
        method=name,
        seed=seed,
        score=draft.metrics["score"],
        interval=score_interval(metric, *pooled(measured)),
        cost=draft.cost,
        config=draft.config,
        environment=draft.environment,
        version=version,
    )
    _write(file, result)
    discard(staged)
    return result


def _key(run: _Run, settings: TrainingSettings) -> str:
    """Return the digest of all that a result depends on, this environment included: times of another don't count."""
    conditions = {
        "task": run.task.name,
        "data": run.task.data_digest,
        "base": run.backbone.record.digest,
        "settings": settings.recorded(),
        "environment": current_environment("auto").content(),
    }
    return digest_json(conditions).removeprefix("sha256:")[:32]


def _read(file: Path) -> MethodRun | None:
    """Return a result that was kept; null where there is none, or not the very same."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("digest") != digest_json(content):
            return None
        environment = Environment(**content["environment"])
        low, high = content["interval"]
        return MethodRun(**{**content, "environment": environment, "interval": (low, high)})
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _write(file: Path, result: MethodRun) -> None:
    content = json.loads(json.dumps(asdict(result)))
    content["digest"] = digest_json(content)
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _reason(error: Exception) -> str:
    if isinstance(error, LimpetError):
        return error.message
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
