"""A home as people use it: the nouns and verbs of the command line, typed.

Everything heavy is imported by the verb that needs it, so opening a home and reading its registry is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from limpet.errors import NotFoundError, UsageError
from limpet.home.context import HomeContext, describe_base
from limpet.home.nouns.adapter import Adapters
from limpet.home.nouns.base import Bases
from limpet.home.nouns.bench import Benches
from limpet.home.nouns.policy import Policies
from limpet.home.nouns.stream import Streams
from limpet.home.nouns.study import Studies
from limpet.home.nouns.task import Tasks
from limpet.home.public import public
from limpet.loading import loading
from limpet.registry import versions
from limpet.registry.cleanup.gc import DAY, collect
from limpet.registry.records import alarms, bases, log, tasks
from limpet.registry.records.alarms import check_no_alarm
from limpet.registry.settings import MonitorMode
from limpet.registry.store import Store
from limpet.registry.system.text_checks import check_reason

if TYPE_CHECKING:
    from limpet.forgetting.ability.comparison import AbilityComparison
    from limpet.forgetting.gate.gate_report import GateReport
    from limpet.forgetting.gate.rules import GateRules
    from limpet.forgetting.mlflow_mirror.sync import MirrorReport
    from limpet.forgetting.monitor.elsewhere import Elsewhere
    from limpet.forgetting.monitor.other_base import BaseComparison
    from limpet.forgetting.report.values import Report
    from limpet.home.results import MethodInfo, MethodSettings, Trained
    from limpet.home.status import HomeStatus
    from limpet.home.verification import Verification
    from limpet.registry.cleanup.gc import Collection
    from limpet.registry.cleanup.usage import Usage
    from limpet.registry.values import EvaluationRecord, LogEvent, Page
    from limpet.training.base.backbone import Backbone
    from limpet.training.evaluation.predict_texts import Prediction
    from limpet.training.learning.estimation.estimate import Estimate
    from limpet.training.learning.settings import TrainingSettings
    from limpet.training.progress import Progress
    from limpet.training.serving import Server
    from limpet.training.serving.bulk import BulkAnswers, ByteSink
    from limpet.training.serving.bulk.row_chunks import Format

__all__ = ["Home", "PredictFileOptions", "TrainOptions"]


class TrainOptions(TypedDict, total=False):
    """What `Home.train` takes beside the task and how it is learned.

    `start_from` is a version whose tensors training begins with. With `resume`, training goes on from the newest
    checkpoint of the task. `monitor` says what is done about the other tasks' current versions: `full` evaluates
    them again, `audit` carries their scores forward where nothing changed, `off` leaves their cells empty; by default
    what the home's settings say, else `full`. True is `full`, and False is `off`.
    `promote` is an alias to move to the new version, if the gate lets it. `max_forgetting` is the gate's limit on
    `forgetting_max`. With `mirror` (by default on) a process of its own brings the MLflow mirror up to date at the
    end; without it, `Home.mirror` does so later. `processes` is how many learn together, this one and others that are
    started for it; by default those that a launcher has started, and else this one. `progress` receives every step.
    """

    start_from: str | None
    resume: bool
    monitor: MonitorMode | bool | None
    promote: str | None
    max_forgetting: float | None
    mirror: bool
    processes: int | None
    progress: Progress | None


class PredictFileOptions(TypedDict, total=False):
    """What `Home.predict_file` takes beside the version and the files.

    `text` is the column of the texts, by default the one that the task learned from or a usual name; `-` says that
    every line is a text. With `probabilities`, every label has a column of them. `threshold` is the probability that
    an answer needs: a multi-label answer has every label that reaches it, a classification's answer is empty where
    none does. `batch_size` texts are computed at once at the most. `format` is that of a stream (`csv`, `tsv` or
    `jsonl`, by default the file's own). `dtype` is what products are computed in, as of `Home.predict`. `progress`
    receives every batch.
    """

    text: str | None
    probabilities: bool
    threshold: float | None
    batch_size: int | None
    dtype: str
    format: Format | None
    progress: Progress | None


@public("home")
class Home:
    """An open home. Nouns are attributes (`home.task.add(...)`), the rest are verbs (`home.train(...)`)."""

    def __init__(self, store: Store) -> None:
        self._context = HomeContext(store)
        self.store = store
        self.base = Bases(self._context)
        self.task = Tasks(self._context)
        self.adapter = Adapters(self._context)
        self.stream = Streams(self._context)
        self.study = Studies(self._context)
        self.bench = Benches(self._context)
        self.policy = Policies(self._context)

    def __repr__(self) -> str:
        return f"<Home {self.path}>"

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    @property
    def path(self) -> Path:
        """The home's folder."""
        return self.store.path

    def train(self, task: str, settings: TrainingSettings | None = None, **options: Unpack[TrainOptions]) -> Trained:
        """Learn a task, register the version, and look back at every earlier task.

        Args:
            task: The task's name.
            settings: How to learn; with `resume`, None takes those of the interrupted run.
            **options: See `TrainOptions`.

        Raises:
            ConflictError: The alias to move is protected.
            GateError: A rule was crossed; the version is kept, and where the rule speaks of its promotion, that is
                refused. Its `outcome` is what `train` would have returned.
            InterruptedRunError: A signal came; `resume` goes on from the checkpoint.
            IntegrityError: The base is not the one on record, or was changed.
            TrainingError: The loss is not finite; or one of several processes has ended, and `resume` goes on.
        """
        from limpet.home.additions import AdditionTerms, Beginning, monitor_mode, train
        from limpet.training.progress import SILENT

        start = Beginning(options.get("start_from"), options.get("resume", False), options.get("processes"))
        terms = AdditionTerms(
            monitor=monitor_mode(self._context, options.get("monitor")),
            promote=options.get("promote"),
            max_forgetting=options.get("max_forgetting"),
            mirror=options.get("mirror", True),
        )
        progress = options.get("progress") or SILENT
        return train(self._context, task, settings, start=start, terms=terms, progress=progress)

    def estimate(
        self, task: str, settings: TrainingSettings | None = None, *, progress: Progress | None = None
    ) -> Estimate:
        """Tell how much memory and time it takes to learn a task, before the base is loaded in full.

        A few steps are taken on the first layers of the base, in processes of their own; all else is reckoned from
        them. What the monitor's evaluations of earlier tasks take comes on top. Nothing is registered.

        Args:
            task: The task's name.
            settings: How it is to be learned.
            progress: Receives every measurement.

        Raises:
            NotFoundError: There is no such task.
            UsageError: The settings make no sense for this task and base.
        """
        record = tasks.get(self.store, task)
        with loading():
            from limpet.training.learning.estimation.estimate import estimate
            from limpet.training.learning.settings import TrainingSettings
            from limpet.training.progress import SILENT

        self._context.base(progress)
        return estimate(self.store, record, settings or TrainingSettings(), progress=progress or SILENT)

    def evaluate(
        self,
        references: Sequence[str] = (),
        *,
        audit: bool = False,
        drift: float | None = None,
        confidence: float | None = None,
        progress: Progress | None = None,
    ) -> tuple[EvaluationRecord, ...]:
        """Evaluate versions on their tasks' evaluation splits; without references, every task's current version.

        Each is held against the evaluation made when it was registered. A version that answers otherwise has an alarm
        from then on, which no later evaluation takes away; see `accept`.

        Args:
            references: The versions.
            audit: Check a random sample, where nothing that it depends on has changed since; see
                `limpet.forgetting.monitor.audit`.
            drift: The share of changed examples that an audit finds; by default 1 %.
            confidence: The probability of finding it; by default 99 %.
            progress: Receives every batch.

        Raises:
            NotFoundError: There is no such version, or no version at all.
            IntegrityError: A version has an open alarm: it does not answer as recorded, or once did not.
        """
        with loading():
            from limpet.forgetting.monitor import audit as audits
            from limpet.forgetting.monitor import monitor
            from limpet.forgetting.monitor.drift import hold_against_reference
            from limpet.forgetting.monitor.kept_predictions import read_contents
            from limpet.training.progress import SILENT

        chosen = [versions.resolve(self.store, reference) for reference in references]
        chosen = chosen or list(versions.current(self.store))
        if not chosen:
            raise NotFoundError("This home has no version yet.", "limpet train TASK")
        backbone = self.backbone(progress)
        told = progress or SILENT
        wanted = (audits.DRIFT if drift is None else drift, audits.CONFIDENCE if confidence is None else confidence)
        found, anew = [], monitor.Part(bypass_cache=True)
        contents = read_contents(self.store)
        for version in chosen:
            if audit:
                found.append(
                    audits.audit(self.store, backbone, version, drift=wanted[0], confidence=wanted[1], progress=told)
                )
                continue
            for evaluation in monitor.evaluate_parts(self.store, backbone, version, part=anew, progress=told):
                found.append(evaluation)
                if note := hold_against_reference(self.store, evaluation, contents):
                    told.note(note)
        # after the last one, so that no alarm hides another
        check_no_alarm(self.store, [version.reference for version in chosen])
        return tuple(found)

    def evaluate_elsewhere(
        self,
        reference: str,
        *,
        data: str | None = None,
        task: str | None = None,
        columns: tuple[str | None, str | None] = (None, None),
        progress: Progress | None = None,
    ) -> Elsewhere:
        """Evaluate a version on data that are not its own task's; the evaluation is kept, and stands in no matrix.

        Args:
            reference: The version.
            data: A data SPEC.
            task: Or another task of the same type, whose evaluation rows are taken.
            columns: Of the data, those of the texts and of the targets; by default what the task's own are called.
            progress: Receives every batch.

        Raises:
            NotFoundError: There is no such version, task or data.
            UsageError: Neither data nor a task is named, or both; or the task does not suit.
            DataError: The data can't be read.
        """
        version = versions.resolve(self.store, reference)
        if (data is None) == (task is None):
            raise UsageError(
                "A version is evaluated elsewhere on data or on another task.",
                f"limpet evaluate {reference} --data SPEC, or --task NAME",
            )
        with loading():
            from limpet.forgetting.monitor import elsewhere
            from limpet.training.progress import SILENT

        if task is not None:
            rows = elsewhere.rows_of_task(self.store, version, task)
        else:
            rows = elsewhere.rows_of_data(self.store, version, str(data), columns=columns)
        told = progress or SILENT
        backbone = self.backbone(progress)
        return elsewhere.evaluate_elsewhere(self.store, backbone, version, rows=rows, progress=told)

    def compare_bases(self, reference: str, spec: str, *, progress: Progress | None = None) -> BaseComparison:
        """Answer a version's evaluation examples on its own base and on another form of it, such as `SPEC#nf4`.

        The evaluation on the other form is kept, and stands in no matrix; no gate reads it. The bases are in memory
        one after the other.

        Args:
            reference: The version.
            spec: The SPEC of the other form: the same files, held in another dtype or in other bits.
            progress: Receives every batch.

        Raises:
            NotFoundError: There is no such version or base.
            UsageError: The SPEC names the version's own base, or the version's method can't work on the other form.
            IntegrityError: The SPEC names another model.
        """
        version = versions.resolve(self.store, reference)
        with loading():
            from limpet.forgetting.monitor import other_base
            from limpet.training.base.backbone import load_backbone
            from limpet.training.progress import SILENT

        told = progress or SILENT
        record = describe_base(spec, progress)
        other_base.check_other_form(version, bases.get(self.store, version.base_digest), record)

        def other() -> Backbone:
            self._context.release()
            with loading():
                return load_backbone(self.store, record, self.store.settings.evaluation_dtype or "auto")

        return other_base.compare_bases(
            self.store, version, own=lambda: self.backbone(progress), other=other, progress=told
        )

    def evaluate_harness(
        self, reference: str, file: str | Path, *, limit: int | None = None, progress: Progress | None = None
    ) -> AbilityComparison:
        """Ask a task of the evaluation harness (lm-eval) of the base alone and while a version is active.

        The answers are kept as those of a stream's ability tasks are, so that nothing is asked twice.

        Args:
            reference: The version.
            file: The task's YAML file, with its data in local files.
            limit: How many of its documents are asked, the first ones; by default all.
            progress: Receives every batch.

        Raises:
            NotFoundError: There is no such version or file.
            UsageError: The file runs code or wants what is not local, or the base is no decoder.
            DataError: The task does not fit its data.
            UnavailableError: lm-eval is not installed.
        """
        version = versions.resolve(self.store, reference)
        if limit is not None and limit < 2:
            raise UsageError(f"A limit of {limit} documents has no interval.", "--limit 100")
        with loading():
            from limpet.forgetting.ability.comparison import compare_with_base
            from limpet.training.evaluation.harness.task_file import read_task_file
            from limpet.training.progress import SILENT

        task = read_task_file(Path(file), limit)
        backbone = self.backbone(progress)
        return compare_with_base(self.store, backbone, version, question=task, progress=progress or SILENT)

    def accept(self, reference: str, reason: str, *, progress: Progress | None = None) -> EvaluationRecord:
        """Resolve a version's alarm: evaluate it in full, and hold it against that evaluation from here on.

        Args:
            reference: The version.
            reason: Why what it answers now is right; the log keeps it.
            progress: Receives every batch.

        Raises:
            ConflictError: The version has no open alarm.
            NotFoundError: There is no such version.
            UsageError: There is no reason.
        """
        version = versions.resolve(self.store, reference)
        if alarms.open_alarm(self.store, version.reference) is None:
            raise alarms.nothing_to_accept(version.reference)
        check_reason(reason, needed=True)
        with loading():
            from limpet.forgetting.monitor import monitor
            from limpet.training.progress import SILENT

            backbone = self.backbone(progress)
        parts = monitor.evaluate_parts(
            self.store, backbone, version, part=monitor.Part(bypass_cache=True), progress=progress or SILENT
        )
        ids = [evaluation.id for evaluation in parts]
        alarms.accept(self.store, version.reference, evaluations=ids, reason=reason)
        return parts[0]

    def predict(
        self, task: str, texts: Sequence[str | Sequence[str]], *, dtype: str = "auto"
    ) -> tuple[Prediction, ...]:
        """Answer texts with a version of a task: `task`, `task@3` or `task@alias`.

        Args:
            task: The version.
            texts: The texts.
            dtype: What products are computed in, `float32` or `bfloat16`; `auto` is float32 of a base whose weights
                are stored in it, and else what evaluations are computed in by default.

        Raises:
            UsageError: There is no such dtype.
            NotFoundError: There is no such version.
            IntegrityError: A file is corrupt, or the base is another.
        """
        version = versions.resolve(self.store, task)
        with loading():
            from limpet.training.evaluation.predict_texts import predict

            backbone = self.backbone().serving_in(dtype)
        return predict(self.store, backbone, version, texts=texts)

    def predict_file(
        self, task: str, path: str | Path, out: str | Path | ByteSink, **options: Unpack[PredictFileOptions]
    ) -> BulkAnswers:
        """Answer the rows of a CSV, TSV, JSON lines or Parquet file with a version of a task.

        Every column is carried through unchanged, and the answers stand behind them. Rows are read, answered and
        written some at a time, so that memory does not grow with the file. A call that was stopped is gone on with by
        the same call, and gives the same bytes; a file that it did not write is not written over. A record beside
        `out` says which version answered.

        Args:
            task: `task`, `task@3` or `task@alias`.
            path: The file; another suffix than those of tables is a text a line, unless it looks like a table.
            out: The file to be written, whose suffix says its format; or a stream, which is not gone on with.
            **options: See `PredictFileOptions`.

        Raises:
            NotFoundError: There is no such version or file.
            UsageError: The name of `out` says no format, or the answers have no probabilities or threshold.
            DataError: The file is not whole, or its column of texts is not known.
            ConflictError: There is a file at `out` that this call did not write.
            InterruptedRunError: It was stopped; the same call goes on.
            IntegrityError: A file of the version is corrupt, or the base is another.
        """
        version = versions.resolve(self.store, task)
        with loading():
            from limpet.training.progress import SILENT
            from limpet.training.serving.bulk import BulkRequest, BulkVersion, answer_file, answer_to
            from limpet.training.task_types import AnswerForm

        progress = options.get("progress") or SILENT
        form = AnswerForm(options.get("probabilities", False), options.get("threshold"))
        request = BulkRequest(
            Path(path), options.get("text"), form, options.get("batch_size"), options.get("dtype", "auto")
        )
        answering = BulkVersion(
            self.store, version, tasks.of_version(self.store, version), lambda: self.backbone(progress)
        )
        if isinstance(out, str | Path):
            return answer_file(answering, request, Path(out), progress=progress)
        return answer_to(answering, request, out, form=options.get("format"), progress=progress)

    def serve(self, memory: int | None = None) -> Server:
        """Make a server on the home's base: it answers texts of many tasks at once, and keeps their adapters ready.

        Args:
            memory: Bytes of adapters that are kept ready; see `limpet.training.serving.Server`.

        Raises:
            IntegrityError: The base's files are not those of the fingerprint.
        """
        with loading():
            from limpet.training.serving import MEMORY, Server

            backbone = self.backbone()
        return Server(self.store, backbone, MEMORY if memory is None else memory)

    def report(self, stream: str | None = None) -> Report:
        """Gather what is known of a stream; by default of the one that moved last.

        Raises:
            NotFoundError: There is no such stream.
        """
        from limpet.forgetting.report.build import build_report

        return build_report(self.store, stream)

    def gate(
        self, stream: str | None = None, rules: GateRules | None = None, progress: Progress | None = None
    ) -> GateReport:
        """Hold a stream's isolated arms against the rules; where it has none, all its arms.

        In the home's own growth, each version that answers is held against the one that it replaced, and the newest
        addition as if it answered already; what somebody accepted on purpose is not held against them.

        Args:
            stream: The stream; by default the one that moved last.
            rules: By default those of `[gate]` in the home's `limpet.toml`.
            progress: Receives a note of which rule could not be judged.

        Raises:
            GateError: A rule was crossed; its `outcome` is the report.
            IntegrityError: No rule was crossed, but a version that the report is about has an open alarm.
            NotFoundError: There is no such stream, or no task that a rule names: a misspelt one would let all pass.
        """
        from limpet.forgetting.gate.parse import read_rules
        from limpet.home.judging import judge_stream, refusal

        rules = read_rules(self.path) if rules is None else rules
        for task in rules.tasks:
            tasks.get(self.store, task)
        report, judgement = judge_stream(self._context, stream, rules)
        if progress is not None:
            for note in judgement.notes:
                progress.note(note)
        if judgement.crossings:
            hint = f"limpet report {report.stream}"
            if waiting := judgement.waiting:
                hint = (
                    f"{hint}; {waiting} is the newest addition, and judged as if it answered: limpet adapter delete "
                    f"{waiting} --reason TEXT decides against it"
                )
            raise refusal("The gate is crossed", judgement, hint, outcome=report)
        check_no_alarm(self.store, [alarm.version for alarm in report.alarms])
        return report

    def methods(self, progress: Progress | None = None) -> tuple[MethodInfo, ...]:
        """Every method with what it can do, and whether it works on this home's base.

        That was tried before on the architectures that limpet knows. On another one it is tried now, on a small
        model made from the base's configuration.
        """
        from limpet.home.capabilities import describe_methods
        from limpet.training.progress import SILENT

        return describe_methods(self.store, progress or SILENT)

    def method(self, name: str) -> MethodSettings:
        """What `--set` takes for a method.

        Raises:
            NotFoundError: There is no such method; the nearest name is said.
        """
        from limpet.home.capabilities import describe_method

        return describe_method(name)

    def verify(self, *, deep: bool = False, probe: bool = False, progress: Progress | None = None) -> Verification:
        """Re-read every file of the home's bases and registry, and name what is wrong; nothing is changed.

        Args:
            deep: Also check what the bytes say; see `limpet.registry.verification.verify`.
            probe: Also let every version answer its probe again; see `limpet.training.evaluation.reference_outputs`.
            progress: Receives every file and version.
        """
        from limpet.home.verification import verify_home
        from limpet.training.progress import SILENT

        return verify_home(self._context, deep=deep, probe=probe, progress=progress or SILENT)

    def gc(
        self,
        grace_seconds: int = DAY,
        *,
        dry_run: bool = True,
        today: str | None = None,
        progress: Progress | None = None,
    ) -> Collection:
        """Say what nothing needs any more; without `dry_run`, remove it; see `limpet.registry.cleanup.gc.collect`."""
        from limpet.training.progress import SILENT

        told = progress or SILENT

        def tell(done: int, total: int) -> None:
            if not done:
                told.start("remove files", total)
            told.advance(done)

        report = collect(self.store, grace_seconds, dry_run, progress=tell, today=today)
        told.finish()
        return report

    def status(self) -> HomeStatus:
        """Return this home at a glance: base, what serves each task, the newest versions, and what is due."""
        from limpet.home.status import read_status

        return read_status(self.store)

    def du(self) -> Usage:
        """Measure what this home takes on disk by kind, what a gc would free, and what the machine's cache takes.

        Raises:
            LimpetError: The cache can't be read.
        """
        from limpet.registry.cleanup.usage import usage

        return usage(self.store)

    def log(self, subject: str | None = None, limit: int = 50, cursor: str | None = None) -> Page[LogEvent]:
        """One page of the home's log, newest first: who did what to what."""
        return log.read(self.store, subject, limit, cursor=cursor)

    def mirror(self, *, wait: bool = True) -> tuple[str, ...]:
        """Bring the MLflow mirror up to date after an addition, whatever happens to the tracking server.

        Args:
            wait: Return when it is done, or after a minute. Without it, a process of its own does it afterwards, but
                for the seconds that `LIMPET_MIRROR_SECONDS` asks to wait.

        Returns:
            Warnings about what could not be done; the next time catches up.
        """
        from limpet.home.additions import mirror

        return mirror(self.store, wait=wait)

    def sync(self, *, again: bool = False) -> MirrorReport:
        """Bring the MLflow mirror up to date; with `again`, look everything up and restore what was deleted there.

        Raises:
            UnavailableError: The tracking server can't be reached.
        """
        from limpet.forgetting.mlflow_mirror import sync as mirror

        return mirror.sync(self.store, again=again)

    def backbone(self, progress: Progress | None = None) -> Backbone:
        """Load the home's base, once; it is checked against its fingerprint every time it is asked for.

        Raises:
            IntegrityError: The files are not those of the fingerprint.
        """
        return self._context.backbone(progress)

    def loaded(self, digest: str) -> Backbone | None:
        """Return the base of this fingerprint if it is in memory."""
        return self._context.loaded(digest)
