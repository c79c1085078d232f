"""Streams, their arms under each seed, and the steps with their rows of the score matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from limpet.errors import ConflictError, NotFoundError, UsageError
from limpet.names import check_name
from limpet.registry.database.schema import ArmRunRow, EvaluationRow, StepCellRow, StepRow, StreamRow
from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.records import log
from limpet.registry.records.evaluations import evaluation_records
from limpet.registry.records.rows import batched, current_names, find_task, find_version, references, task_names
from limpet.registry.store import Store
from limpet.registry.system.clock import utc_now
from limpet.registry.values import ArmDraft, ArmRun, StepRecord, StreamRecord

__all__ = [
    "HOME_STREAM",
    "add_step",
    "arm_run",
    "arm_runs",
    "create",
    "extend",
    "finish_arm",
    "get",
    "last_step",
    "latest",
    "list_all",
    "set_sweep",
    "steps",
    "touch",
]

# the stream of the home's own growth, which every `limpet train` extends
HOME_STREAM = "home"


def create(store: Store, name: str, spec: JsonObject, *, base_digest: str, tasks: Sequence[str]) -> StreamRecord:
    """Keep a stream; the same one again is returned as it is.

    Args:
        store: The open home.
        name: The stream's name.
        spec: The stream file as JSON; its digest says whether two streams are the same.
        base_digest: The fingerprint of the base that it runs on.
        tasks: The names of its tasks, in order; each must exist.

    Raises:
        ConflictError: The name stands for another spec or base.
        NotFoundError: A task is unknown.
    """
    check_name("stream", name)
    digest = digest_json(spec)
    with store.database.write("stream") as session:
        row = session.scalar(select(StreamRow).where(StreamRow.name == name))
        if row is None:
            now = utc_now()
            row = StreamRow(
                name=name,
                spec=spec,
                digest=digest,
                base_digest=base_digest,
                tasks=[find_task(session, task).name for task in tasks],
                created_at=now,
                updated_at=now,
            )
            session.add(row)
            log.record(session, "stream", name, detail={"digest": digest})
        elif row.digest != digest or row.base_digest != base_digest:
            other = "definition" if row.digest != digest else "base"
            raise ConflictError(
                f"There is a stream {name!r} already, with another {other}.",
                f"limpet stream show {name}, or change `name:` in the stream file",
            )
        return _stream(row, current_names(session))


def get(store: Store, name: str) -> StreamRecord:
    """Return a stream.

    Raises:
        NotFoundError: There is none of this name.
    """
    with store.database.read() as session:
        return _stream(_find_stream(session, name), current_names(session))


def list_all(store: Store) -> tuple[StreamRecord, ...]:
    """Return every stream, in the order they were made."""
    with store.database.read() as session:
        renamed = current_names(session)
        return tuple(_stream(row, renamed) for row in session.scalars(select(StreamRow).order_by(StreamRow.id)))


def latest(store: Store) -> StreamRecord:
    """Return the stream that was worked on last.

    Raises:
        NotFoundError: There is no stream yet.
    """
    newest = select(StreamRow).order_by(StreamRow.updated_at.desc(), StreamRow.id.desc()).limit(1)
    with store.database.read() as session:
        row = session.scalar(newest)
        if row is None:
            raise NotFoundError("There is no stream in this home yet.", "limpet stream run FILE.yaml")
        return _stream(row, current_names(session))


def touch(store: Store, name: str) -> None:
    """Note that a stream moved now, where what belongs to it is kept under another name.

    Raises:
        NotFoundError: There is no such stream.
    """
    with store.database.write("stream") as session:
        _find_stream(session, name).updated_at = utc_now()
        log.record(session, "touch", name)


def extend(store: Store, name: str, task: str, *, base_digest: str) -> StreamRecord:
    """Add a task at the end of a growing stream's list, unless it is there; the first task makes the stream.

    Raises:
        NotFoundError: There is no such task.
        ConflictError: The stream grows on another base: scores on two bases are no one matrix.
    """
    create(store, name, {"name": name}, base_digest=base_digest, tasks=())
    with store.database.write("stream") as session:
        row = _find_stream(session, name)
        # a task that was renamed goes on in its own column
        if find_task(session, task).name not in _stream(row, current_names(session)).tasks:
            row.tasks = [*row.tasks, task]
            row.updated_at = utc_now()
            log.record(session, "extend", name, detail={"task": task})
        return _stream(row, current_names(session))


def arm_run(store: Store, stream: str, arm: ArmDraft) -> ArmRun:
    """Return the run of an arm under a seed, made if it is new.

    Raises:
        NotFoundError: There is no such stream.
        ConflictError: The arm was begun with another strategy, method or settings.
    """
    with store.database.write("stream") as session:
        parent = _find_stream(session, stream)
        row = session.scalar(
            select(ArmRunRow).where(
                ArmRunRow.stream_id == parent.id, ArmRunRow.name == arm.name, ArmRunRow.seed == arm.seed
            )
        )
        if row is None:
            row = ArmRunRow(
                **vars(arm),
                stream_id=parent.id,
                sweep=[],
                chosen={},
                finished=False,
                created_at=utc_now(),
            )
            session.add(row)
            parent.updated_at = utc_now()
            log.record(session, "arm", stream, detail={"arm": arm.name, "seed": arm.seed})
        elif (row.strategy, row.method, digest_json(row.settings)) != (
            arm.strategy,
            arm.method,
            digest_json(arm.settings),
        ):
            raise ConflictError(
                f"The arm {arm.name!r} of stream {stream!r} was begun with seed {arm.seed} as {row.strategy}, "
                f"{row.method}, with other settings than now.",
                "give the arm or the stream another name",
            )
        return _arm(row, stream)


def set_sweep(store: Store, arm_run_id: int, sweep: Sequence[JsonObject], *, chosen: JsonObject) -> ArmRun:
    """Keep every candidate of an arm's sweep with its validation scores, and the one chosen.

    Raises:
        NotFoundError: There is no such run of an arm.
    """
    with store.database.write("stream") as session:
        row, stream = _touch(session, arm_run_id)
        row.sweep, row.chosen = list(sweep), chosen
        log.record(session, "sweep", stream.name, detail={"arm": row.name, "seed": row.seed, "chosen": chosen})
        return _arm(row, stream.name)


def finish_arm(store: Store, arm_run_id: int) -> ArmRun:
    """Mark the run of an arm as finished.

    Raises:
        NotFoundError: There is no such run of an arm.
    """
    with store.database.write("stream") as session:
        row, stream = _touch(session, arm_run_id)
        row.finished = True
        log.record(session, "finish", stream.name, detail={"arm": row.name, "seed": row.seed})
        return _arm(row, stream.name)


def arm_runs(store: Store, stream: str) -> tuple[ArmRun, ...]:
    """Return every run of a stream's arms, in the order they were begun.

    Raises:
        NotFoundError: There is no such stream.
    """
    with store.database.read() as session:
        parent = _find_stream(session, stream)
        rows = session.scalars(select(ArmRunRow).where(ArmRunRow.stream_id == parent.id).order_by(ArmRunRow.id))
        return tuple(_arm(row, parent.name) for row in rows)


def add_step(
    store: Store,
    arm_run_id: int,
    index: int | None,
    *,
    version: str,
    base_unchanged: bool | None,
    row: Mapping[str, int],
) -> StepRecord:
    """Keep a step of an arm with its row of the score matrix; the same step again is returned as it is.

    Args:
        store: The open home.
        arm_run_id: The run of the arm.
        index: The step's place in the arm; null for the next one, whoever else adds steps meanwhile.
        version: The version that was made, as `task@n`.
        base_unchanged: Whether the base's digest was the same afterwards; null where a copy is trained.
        row: The evaluation's id for each task that was evaluated.

    Raises:
        ConflictError: The arm has another version at this index.
        NotFoundError: The arm, version or an evaluation is unknown.
        UsageError: An evaluation is an audit.
    """
    with store.database.write("stream") as session:
        version_row = find_version(session, version)
        if index is None:
            index = session.scalar(select(func.count()).where(StepRow.arm_run_id == arm_run_id)) or 0
        step = session.scalar(select(StepRow).where(StepRow.arm_run_id == arm_run_id, StepRow.position == index))
        if step is None:
            arm, stream = _touch(session, arm_run_id)
            step = StepRow(
                arm_run_id=arm_run_id,
                position=index,
                task_id=version_row.task_id,
                version_id=version_row.id,
                base_unchanged=base_unchanged,
                created_at=utc_now(),
            )
            session.add(step)
            session.flush()
            session.add_all(_cell(session, step.id, name, evaluation_id=id_) for name, id_ in row.items())
            detail = {"arm": arm.name, "seed": arm.seed, "step": index, "version": version}
            log.record(session, "step", stream.name, detail=detail)
        elif step.version_id != version_row.id:
            there = references(session, [step.version_id])[step.version_id]
            raise ConflictError(
                f"Step {index} of this arm made {there} already, not {version}.", "limpet stream list"
            )
        return _steps(session, [step])[0]


def steps(store: Store, arm_run_id: int) -> tuple[StepRecord, ...]:
    """Return the steps of an arm's run, in order."""
    with store.database.read() as session:
        rows = session.scalars(select(StepRow).where(StepRow.arm_run_id == arm_run_id).order_by(StepRow.position))
        return _steps(session, rows.all())


def last_step(store: Store, arm_run_id: int) -> StepRecord | None:
    """Return the last step of an arm's run; null where there is none."""
    of_run = select(StepRow).where(StepRow.arm_run_id == arm_run_id)
    with store.database.read() as session:
        row = session.scalar(of_run.order_by(StepRow.position.desc()).limit(1))
        return None if row is None else _steps(session, [row])[0]


def _find_stream(session: Session, name: str) -> StreamRow:
    row = session.scalar(select(StreamRow).where(StreamRow.name == name))
    if row is None:
        raise NotFoundError(f"There is no stream {name!r} in this home.", "limpet stream list")
    return row


def _touch(session: Session, arm_run_id: int) -> tuple[ArmRunRow, StreamRow]:
    row = session.get(ArmRunRow, arm_run_id)
    if row is None:
        raise NotFoundError(f"There is no run {arm_run_id} of an arm.", "limpet stream list")
    stream = session.get_one(StreamRow, row.stream_id)
    stream.updated_at = utc_now()
    return row, stream


def _cell(session: Session, step_id: int, task: str, *, evaluation_id: int) -> StepCellRow:
    task_row, evaluation = find_task(session, task), session.get(EvaluationRow, evaluation_id)
    if evaluation is None or evaluation.task_id != task_row.id:
        raise NotFoundError(f"There is no evaluation {evaluation_id} of task {task!r}.", f"limpet evaluate {task}")
    if evaluation.kind not in ("full", "carried"):
        raise UsageError(
            f"Evaluation {evaluation_id} of {task!r} is an audit of a sample, and no cell of a score matrix.",
            f"limpet evaluate {task}",
        )
    return StepCellRow(step_id=step_id, task_id=task_row.id, evaluation_id=evaluation_id)


def _steps(session: Session, rows: Sequence[StepRow]) -> tuple[StepRecord, ...]:
    named = references(session, [row.version_id for row in rows])
    tasks = task_names(session, (row.task_id for row in rows))
    by_step: dict[int, dict[str, Any]] = {row.id: {} for row in rows}
    for ids in batched(by_step):
        cells = session.execute(
            select(StepCellRow.step_id, EvaluationRow)
            .join(EvaluationRow, EvaluationRow.id == StepCellRow.evaluation_id)
            .where(StepCellRow.step_id.in_(ids))
            .order_by(EvaluationRow.id)
        ).all()
        for (step_id, _), record in zip(cells, evaluation_records(session, [cell[1] for cell in cells]), strict=True):
            by_step[step_id][record.task] = record
    return tuple(
        StepRecord(
            arm_run=row.arm_run_id,
            index=row.position,
            task=tasks[row.task_id],
            version=named[row.version_id],
            base_unchanged=row.base_unchanged,
            row=by_step[row.id],
            created_at=row.created_at,
        )
        for row in rows
    )


def _stream(row: StreamRow, renamed: Mapping[str, str]) -> StreamRecord:
    """Return the value of a stream's row, with what its tasks are called now."""
    return StreamRecord(
        name=row.name,
        spec=row.spec,
        digest=row.digest,
        base_digest=row.base_digest,
        tasks=tuple(renamed.get(task, task) for task in row.tasks),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _arm(row: ArmRunRow, stream: str) -> ArmRun:
    return ArmRun(
        id=row.id,
        stream=stream,
        name=row.name,
        strategy=row.strategy,
        method=row.method,
        seed=row.seed,
        settings=row.settings,
        sweep=tuple(row.sweep),
        chosen=row.chosen,
        finished=row.finished,
    )
