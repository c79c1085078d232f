"""`limpet predict TASK --file F`: the rows of a table, with the answers behind them."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from limpet.cli.invocation.invocation import Invocation
from limpet.cli.terminal.sanitize import plain
from limpet.first_few import first_few
from limpet.loading import loading
from limpet.registry.formats.json_values import JsonObject

if TYPE_CHECKING:
    from limpet.cli.terminal.progress import TerminalProgress
    from limpet.home import PredictFileOptions
    from limpet.training.serving.bulk import BulkAnswers
    from limpet.training.serving.bulk.row_chunks import Format

__all__ = ["Options", "answer_rows", "is_table", "rows_in"]


class Options(TypedDict):
    """The options that are about rows."""

    text: str | None
    out: str | None
    probabilities: bool
    threshold: float | None
    batch: int | None
    dtype: str | None


@contextmanager
def rows_in(texts: Sequence[str], file: str | None) -> Iterator[Path]:
    """Yield a file with what is to be answered: what was typed, what stdin has, or the file that was named."""
    if file is not None and file != "-":
        yield Path(file)
        return
    with tempfile.TemporaryDirectory(prefix="limpet-rows-") as folder:
        # a file without a suffix is known by what stands in it
        path = Path(folder, "stdin" if file else "texts.jsonl")
        if file:
            with path.open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts), encoding="utf-8")
        yield path


def is_table(path: Path) -> bool:
    """Tell whether a file has columns, by its suffix or by what stands in it."""
    with loading():
        from limpet.training.serving.bulk.formats import format_of

    return format_of(path) != "lines"


def answer_rows(invocation: Invocation, task: str, path: Path, *, file: str | None, options: Options) -> None:
    """Answer rows into the file that was named, else to stdout: in their own format, as JSON, or as a table."""
    home = invocation.open()
    if options["out"] is not None:
        with invocation.progress() as progress:
            answers = home.predict_file(task, path, options["out"], **_wanted(options, progress))
        _summarise(invocation, answers)
        return
    if invocation.json or file is None:
        stream = io.BytesIO()
        with invocation.progress() as progress:
            answers = home.predict_file(task, path, stream, **_wanted(options, progress, "jsonl"))
        rows = [json.loads(line) for line in stream.getvalue().decode("utf-8").split("\n")[:-1]]
        _show(invocation, answers, rows)
        return
    with invocation.progress() as progress:
        answers = home.predict_file(task, path, _Stdout(), **_wanted(options, progress))
    invocation.note(f"{answers.task}@{answers.version} answered, digest {answers.digest}")
    for sentence in _sentences(answers):
        invocation.note(sentence)


class _Stdout:
    """Bytes to stdout; on a terminal, without what it would act on."""

    def write(self, data: bytes, /) -> None:
        if sys.stdout.isatty():
            click.echo(plain(data.decode("utf-8"), lines=True), nl=False)
        else:
            click.echo(data, nl=False)


def _wanted(options: Options, progress: TerminalProgress, form: Format | None = None) -> PredictFileOptions:
    return {
        "text": options["text"],
        "probabilities": options["probabilities"],
        "threshold": options["threshold"],
        "batch_size": options["batch"],
        "dtype": options["dtype"] or "auto",
        "format": form,
        "progress": progress,
    }


def _show(invocation: Invocation, answers: BulkAnswers, rows: Sequence[JsonObject]) -> None:
    from limpet.cli.terminal import output

    if invocation.json:
        output.emit(**_content(answers), answers=rows)
        return
    columns = [*answers.columns, answers.text_column]
    output.table(columns, [[row.get(name) for name in columns] for row in rows])


def _summarise(invocation: Invocation, answers: BulkAnswers) -> None:
    from limpet.cli.terminal import output

    if invocation.json:
        output.emit(**_content(answers))
        return
    tally = answers.tally
    pairs: list[tuple[str, object]] = [
        ("answered by", f"{answers.task}@{answers.version}"),
        ("digest", answers.digest),
        ("rows", f"{tally.rows}, of which {tally.answered} answered"),
        ("answers", f"{answers.out}, column {first_few(answers.columns, 4)}"),
    ]
    if answers.already:
        pairs.append(("time", "none: the file has these answers already"))
    else:
        pairs.append(("time", f"{answers.seconds:.1f} s, {answers.rows_per_second:.0f} rows a second"))
    output.fields_table(pairs)
    output.warn(_sentences(answers))


def _sentences(answers: BulkAnswers) -> list[str]:
    """Say what was not answered, and what was cut."""
    tally = answers.tally
    sentences = [
        f"{count} row{'s have' if count > 1 else ' has'} no answer: {reason}"
        for reason, count in sorted(tally.unanswered.items())
    ]
    if tally.first_unanswered:
        named = ", ".join(str(one.row) for one in tally.first_unanswered)
        sentences.append(f"the first without an answer: row {named}")
    if tally.abstained:
        sentences.append(f"{tally.abstained} of {tally.rows} rows have no answer that reaches the threshold")
    if tally.cut:
        sentences.append(f"{tally.cut} of {tally.rows} texts are longer than the version reads, and were cut")
    return sentences


def _content(answers: BulkAnswers) -> JsonObject:
    content = asdict(answers)
    tally: JsonObject = content.pop("tally")
    return content | tally | {"rows_per_second": answers.rows_per_second}
