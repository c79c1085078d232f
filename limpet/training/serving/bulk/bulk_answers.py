"""What is asked of a file of rows, what decides its bytes, what came of it, and the record that lies beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Self

from limpet.errors import ConflictError, UsageError
from limpet.registry.formats.canonical import digest_file
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.system.atomic_files import write_file
from limpet.training.serving.bulk.row_chunks import Format
from limpet.training.serving.bulk.tally import Tally
from limpet.training.task_types import AnswerForm

__all__ = ["BulkAnswers", "BulkJob", "BulkRequest", "finished", "keep_record", "record_path"]

_KIND = "limpet predict"


@dataclass(frozen=True)
class BulkRequest:
    """What is asked.

    Args:
        path: The file with the rows.
        text: The column of the texts; `-` where each line is one, null where it is known by its name.
        form: What stands beside the answers, and how probable they must be.
        batch_size: How many texts are computed at once at the most; null where the device decides.
        dtype: What products are computed in, as of `Backbone.serving_in`.
    """

    path: Path
    text: str | None = None
    form: AnswerForm = field(default_factory=AnswerForm)
    batch_size: int | None = None
    dtype: str = "auto"

    def __post_init__(self) -> None:
        """Check the batch size.

        Raises:
            UsageError: There is no text in a batch.
        """
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"A batch of {self.batch_size} texts answers none.", "--batch 64")


@dataclass(frozen=True)
class BulkJob:
    """All that decides the bytes of the answers; an unfinished file is gone on with by the same job alone."""

    task: str
    version: int
    digest: str
    base_digest: str
    input_digest: str
    text_column: str
    columns: tuple[str, ...]
    format: Format
    probabilities: bool
    threshold: float | None
    batch_size: int | None
    dtype: str

    def content(self) -> JsonObject:
        """Return it as JSON, with the release that answers."""
        return {**asdict(self), "columns": list(self.columns), "limpet": version("limpet")}


@dataclass(frozen=True)
class BulkAnswers:
    """What came of a file of rows.

    `task`, `version` and `digest` say who answered; `columns` are those of the answers, behind the file's own.
    `resumed_at` counts the rows that an earlier call had answered; with `already`, all of them, and nothing was
    done. `out` is null where a stream was written, and `output_digest` with it.
    """

    task: str
    version: int
    digest: str
    base_digest: str
    out: Path | None
    format: Format
    text_column: str
    columns: tuple[str, ...]
    input_digest: str
    output_digest: str | None
    tally: Tally
    resumed_at: int
    already: bool
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """How many rows this call answered in a second, reading and loading among them."""
        return (self.tally.rows - self.resumed_at) / max(self.seconds, 1e-9)

    @classmethod
    def of(cls, job: BulkJob, tally: Tally, *, out: Path | None, resumed_at: int, seconds: float) -> Self:
        """Return what came of a job."""
        return cls(
            task=job.task,
            version=job.version,
            digest=job.digest,
            base_digest=job.base_digest,
            out=out,
            format=job.format,
            text_column=job.text_column,
            columns=job.columns,
            input_digest=job.input_digest,
            output_digest=None,
            tally=tally,
            resumed_at=resumed_at,
            already=False,
            seconds=seconds,
        )


def record_path(out: Path) -> Path:
    """Return where the record of a file of answers lies."""
    return out.with_name(f"{out.name}.limpet.json")


def keep_record(answers: BulkAnswers, job: BulkJob, *, digest: str) -> BulkAnswers:
    """Write beside the answers which version gave them to which rows, and return them with their digest.

    Raises:
        ConflictError: There is a file of that name which is none of limpet's.
    """
    assert answers.out is not None
    path = record_path(answers.out)
    if path.exists() and _read(path) is None:
        raise ConflictError(f"{path} is not limpet's, and would be written over.", f"mv {path} ANOTHER_NAME")
    content = {
        "schema": 1,
        "kind": _KIND,
        "job": job.content(),
        "output_digest": digest,
        "tally": answers.tally.content(),
    }
    write_file(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
    return replace(answers, output_digest=digest)


def finished(out: Path, job: BulkJob) -> BulkAnswers | None:
    """Return what came of a job that ended before; null where there is no file yet.

    Raises:
        ConflictError: There is a file that is not what this job wrote.
    """
    if not out.exists():
        return None
    record = _read(record_path(out))
    if record is None:
        raise ConflictError(
            f"{out} exists, and is no file of answers that this home wrote.", f"--out ANOTHER_NAME, or rm {out}"
        )
    before = record["job"]
    if before != job.content():
        differing = sorted(name for name, value in job.content().items() if before.get(name) != value)
        raise ConflictError(
            f"{out} has the answers of {before.get('task')}@{before.get('version')} to another question: "
            f"{', '.join(differing)} {'is' if len(differing) == 1 else 'are'} different now.",
            f"--out ANOTHER_NAME, or rm {out}",
        )
    if digest_file(out) != record["output_digest"]:
        raise ConflictError(f"{out} was changed since it was written.", f"--out ANOTHER_NAME, or rm {out}")
    tally = Tally.of(record["tally"])
    answers = BulkAnswers.of(job, tally, out=out, resumed_at=tally.rows, seconds=0.0)
    return replace(answers, output_digest=record["output_digest"], already=True)


def _read(path: Path) -> JsonObject | None:
    """Return a record; null where there is none, or something else."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and content.get("kind") == _KIND and isinstance(content.get("job"), dict)
    return content if whole else None
