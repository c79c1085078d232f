"""A file of rows answered by a version, from the first row to the last, or on from where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from limpet.errors import DataError, InterruptedRunError, NotFoundError, UsageError
from limpet.registry.formats.canonical import digest_file
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord, VersionRecord
from limpet.training.base.backbone import Backbone
from limpet.training.evaluation.quick_answers import Screening
from limpet.training.progress import SILENT, Progress
from limpet.training.serving.bulk.answering import AnsweredChunk, BulkModel, open_model
from limpet.training.serving.bulk.bulk_answers import BulkAnswers, BulkJob, BulkRequest, finished, keep_record
from limpet.training.serving.bulk.columns import TextColumn, choose_text_column, name_answers
from limpet.training.serving.bulk.formats import format_of, format_of_out, open_rows
from limpet.training.serving.bulk.row_chunks import Format, RowFile
from limpet.training.serving.bulk.row_progress import RowProgress
from limpet.training.serving.bulk.tally import Tally
from limpet.training.serving.bulk.unfinished import Unfinished, open_unfinished, sweep
from limpet.training.serving.bulk.writers import RowWriter, writer_for
from limpet.training.task_types import task_type

__all__ = ["BulkVersion", "ByteSink", "answer_file", "answer_to"]

_LINES = "-"
"""What stands for the column of the texts where each line of a file is a text."""


class ByteSink(Protocol):
    """Whatever takes bytes, such as a file."""

    def write(self, data: bytes, /) -> object:
        """Take some more."""


@dataclass(frozen=True)
class BulkVersion:
    """What answers: a version of a task, and the base that it is put on, loaded when it is asked for."""

    store: Store
    version: VersionRecord
    task: TaskRecord
    backbone: Callable[[], Backbone]


@dataclass(frozen=True)
class _Plan:
    """A file that was read through, the column of its texts, and what writes it with its answers."""

    source: RowFile
    column: TextColumn
    writer: RowWriter
    job: BulkJob


def answer_file(
    answering: BulkVersion, request: BulkRequest, out: Path, *, progress: Progress = SILENT
) -> BulkAnswers:
    """Answer the rows of a file, and write them with their answers into another.

    What is written after each chunk of rows is on the disk before the next is begun. The same call goes on behind
    them, and ends with the same bytes; a file that it did not write is not written over.

    Args:
        answering: The version.
        request: What is asked.
        out: The file to be written; its suffix says the format.
        progress: Receives every batch.

    Raises:
        UsageError: The name of `out` says no format, or answers of this type are not what was asked for.
        NotFoundError: There is no such file, or no such folder for `out`.
        DataError: The file is not whole, or its column of texts is not known.
        ConflictError: There is a file at `out` that is not this call's.
        InterruptedRunError: Somebody stopped it; the same call goes on.
        IntegrityError: A file of the version is corrupt, or the base is another.
    """
    form = format_of_out(out)
    if not out.parent.is_dir():
        raise NotFoundError(f"There is no folder {out.parent}.", f"mkdir -p {out.parent}")
    if out.exists() and request.path.exists() and out.samefile(request.path):
        raise UsageError(f"{out} can't be read and written at once.", "--out ANOTHER_NAME")
    started, stamp = time.monotonic(), _stamp(request.path)
    plan = _plan(answering, request, form, progress=progress)
    if done := finished(out, plan.job):
        # it may have died before its last act
        sweep(out, plan.job.content())
        return done
    with open_unfinished(out, plan.job.content()) as unfinished:
        tally, screening = _begin(unfinished, plan.writer)
        before = tally.rows
        if before:
            progress.note(f"goes on after {before} of {plan.source.count} rows")
        try:
            for data, answered in _answered(
                answering, plan, request, tally=tally, known=screening, progress=progress
            ):
                tally = answered.tally
                unfinished.append(data, _state(tally, answered.screening))
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"Stopped after {tally.rows} of {plan.source.count} rows; the answers are in {unfinished.folder}.",
                "the same command again goes on from there",
            ) from None
        if _stamp(request.path) != stamp:
            raise DataError(f"{request.path} was changed while it was read.", f"rm -r {unfinished.folder}, and again")
        made = plan.writer.finish(unfinished.path, unfinished.folder / "whole")
        answers = BulkAnswers.of(plan.job, tally, out=out, resumed_at=before, seconds=time.monotonic() - started)
        answers = keep_record(answers, plan.job, digest=digest_file(made))
        unfinished.place(made, out)
    return answers


def answer_to(
    answering: BulkVersion,
    request: BulkRequest,
    file: ByteSink,
    *,
    form: Format | None = None,
    progress: Progress = SILENT,
) -> BulkAnswers:
    """Answer the rows of a file, and write them with their answers to a stream as they come; see `answer_file`.

    Args:
        answering: The version.
        request: What is asked.
        file: Receives the bytes.
        form: Their format; by default the file's own, CSV where it has lines of text.
        progress: Receives every batch.

    Raises:
        UsageError: Parquet can't be written to a stream.
    """
    if form is None:
        own = format_of(request.path)
        form = "csv" if own == "lines" or request.text == _LINES else own
    if form == "parquet":
        raise UsageError("Parquet can't be written row by row to stdout.", "--out answers.parquet")
    started = time.monotonic()
    plan = _plan(answering, request, form, progress=progress)
    file.write(plan.writer.beginning())
    tally = Tally()
    for data, answered in _answered(answering, plan, request, tally=tally, known=Screening(), progress=progress):
        file.write(data)
        tally = answered.tally
    return BulkAnswers.of(plan.job, tally, out=None, resumed_at=0, seconds=time.monotonic() - started)


def _plan(answering: BulkVersion, request: BulkRequest, form: Format, *, progress: Progress) -> _Plan:
    version, task = answering.version, answering.task
    kind = task_type(task.definition.type)
    answers = kind.answer_columns(version.labels, request.form)
    found = format_of(request.path)
    source = open_rows(request.path, "lines" if request.text == _LINES else found)
    column = choose_text_column(
        kind,
        source.columns,
        asked=None if request.text == _LINES else request.text,
        learned=task.definition.text_column,
        where=str(request.path),
    )
    for note in source.notes:
        progress.note(note)
    if request.text is None:
        progress.note(f"{request.path.name}: the texts are in the column {column.name!r}")
    named = name_answers(answers, source.columns, version.task)
    job = BulkJob(
        task=version.task,
        version=version.number,
        digest=version.digest,
        base_digest=version.base_digest,
        input_digest=digest_file(request.path),
        text_column=column.name,
        columns=tuple(one.name for one in named),
        format=form,
        probabilities=request.form.probabilities,
        threshold=request.form.threshold,
        batch_size=request.batch_size,
        dtype=request.dtype,
    )
    return _Plan(source, column, writer_for(form, source, named), job)


def _begin(unfinished: Unfinished, writer: RowWriter) -> tuple[Tally, Screening]:
    """Return what is known of an unfinished file's rows; where it has none yet, write what stands before them."""
    if not unfinished.state:
        # on record with the first rows: a file without any is nobody's yet
        unfinished.file.write(writer.beginning())
        unfinished.file.flush()
        return Tally(), Screening()
    return Tally.of(unfinished.state["tally"]), Screening(**unfinished.state["screening"])


def _state(tally: Tally, screening: Screening) -> dict[str, object]:
    return {"tally": tally.content(), "screening": screening.content()}


def _answered(
    answering: BulkVersion,
    plan: _Plan,
    request: BulkRequest,
    *,
    tally: Tally,
    known: Screening,
    progress: Progress,
) -> Iterator[tuple[bytes, AnsweredChunk]]:
    """Yield chunk after chunk of what is behind the rows of a tally, as bytes, with what is known then."""
    left = plan.source.count - tally.rows
    if not left:
        return
    with open_model(
        answering.store,
        answering.backbone().serving_in(request.dtype),
        answering.version,
        task=answering.task,
        form=request.form,
        batch_size=request.batch_size,
    ) as model:
        shown = RowProgress(progress, f"answer {request.path.name}", left)
        for answered, data in _chunks(model, plan, tally=tally, known=known, progress=shown):
            yield data, answered
        progress.finish()


def _chunks(
    model: BulkModel, plan: _Plan, *, tally: Tally, known: Screening, progress: RowProgress
) -> Iterator[tuple[AnsweredChunk, bytes]]:
    for chunk in plan.source.chunks(model.rows_at_once, tally.rows):
        answered = model.answer(chunk, plan.column, tally=tally, screening=known, progress=progress)
        tally, known = answered.tally, answered.screening
        yield answered, plan.writer.rows(chunk, answered.cells)
        progress.behind(len(chunk.rows))


def _stamp(path: Path) -> tuple[int, int] | None:
    if not path.exists():
        return None
    status = path.stat()
    return status.st_size, status.st_mtime_ns
