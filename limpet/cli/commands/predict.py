"""`limpet predict`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import click

from limpet.cli.commands._predict_rows import Options, answer_rows, is_table, rows_in
from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.terminal.sanitize import plain
from limpet.errors import NotFoundError, UsageError
from limpet.registry.system.lines import split_lines
from limpet.training.data.reading.encodings import fault_of_bytes

__all__ = ["command"]


@click.command("predict", cls=Command)
@click.argument("task", required=False)
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option(
    "--file",
    metavar="F",
    help="CSV, TSV, JSON lines, Parquet or a text a line; - for stdin. Without TASK: JSON lines with task and text.",
)
@click.option("--text", metavar="COL", help="The column of the texts; by default a usual name. -: a line is a text.")
@click.option("--out", metavar="F2", help="Write rows and answers here: .csv, .tsv, .jsonl or .parquet.")
@click.option("--probabilities", is_flag=True, help="A column of probabilities for each label.")
@click.option(
    "--threshold",
    type=float,
    metavar="X",
    help="Multi-label: every label with this probability; classification: no answer where no label has it.",
)
@click.option("--dtype", metavar="T", help="auto, float32 or bfloat16: what products are computed in. [auto]")
@click.option("--batch", type=int, metavar="N", help="Texts that are computed at once at the most.")
@pass_invocation
def command(
    invocation: Invocation, task: str | None, texts: tuple[str, ...], *, file: str | None, **options: Unpack[Options]
) -> None:
    """Answer texts, or the rows of a file, with a version of a task.

    TASK is TASK, TASK@3 or TASK@ALIAS. Without it, --file names one for every text, and versions of many tasks answer
    together. A table's columns are carried through, and the answers stand behind them. With --out, a command that was
    stopped goes on where it stopped when it is typed again.
    """
    if bool(texts) == (file is not None):
        raise UsageError(
            "Predict takes texts or --file, and one of them.", f"limpet predict {task or 'TASK'} 'a text to classify'"
        )
    asked = [name for name, value in options.items() if value is not None and value is not False]
    if task is None:
        if asked:
            raise UsageError(
                f"--{asked[0]} is for the rows of one task, and no task is named.",
                f"limpet predict TASK --file {file}",
            )
        _answer_many(invocation, str(file))
        return
    if texts and {"text", "out"} & set(asked):
        raise UsageError("--text and --out are for the rows of a file.", f"limpet predict {task} --file rows.csv")
    with rows_in(texts, file) as path:
        if set(asked) - {"dtype"} or (file is not None and is_table(path)):
            answer_rows(invocation, task, path, file=file, options=options)
        else:
            read = texts or _read(invocation, str(file), path)
            _answer_texts(invocation, task, read, dtype=options["dtype"] or "auto")


def _answer_texts(invocation: Invocation, task: str, texts: Sequence[str], *, dtype: str) -> None:
    from limpet.cli.terminal import output

    home = invocation.open()
    version = home.adapter.show(task)
    predictions = home.predict(version.reference, texts, dtype=dtype)
    if invocation.json:
        output.emit(task=version.task, version=version.number, labels=version.labels, predictions=predictions)
        return
    _table([answer.shown for answer in predictions])


def _answer_many(invocation: Invocation, file: str) -> None:
    from limpet.cli.terminal import output

    with rows_in((), file) as path:
        lines = _read(invocation, file, path)
    home, requests = invocation.open(), [_request(file, line) for line in lines]
    served = home.serve().predict(requests)
    if invocation.json:
        output.emit(answers=served)
        return
    _table([{"version": one.version, **one.answer.shown} for one in served])


def _table(shown: Sequence[Mapping[str, Any]]) -> None:
    from limpet.cli.terminal import output

    # tasks of several types have other columns
    columns = tuple(dict.fromkeys(name for one in shown for name in one))
    if len(columns) == 1:
        # nothing but an answer needs no table
        for one in shown:
            click.echo(plain(str(one[columns[0]])))
        return
    cells = [[one.get(name) for name in columns] for one in shown]
    output.table(columns, [[output.digits(one) if isinstance(one, float) else one for one in row] for row in cells])


def _request(name: str, line: str) -> tuple[str, str]:
    """Return the task and the text of a JSON line."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    task, text = (found.get("task"), found.get("text")) if isinstance(found, dict) else (None, None)
    if not isinstance(task, str) or not isinstance(text, str):
        raise UsageError(
            f"{name} has a line that is no JSON object with a task and a text: {line[:60]!r}.",
            """write lines such as {"task": "team@production", "text": "a text"}, or name a TASK for all""",
        )
    return task, text


def _read(invocation: Invocation, name: str, path: Path) -> tuple[str, ...]:
    """Return the lines of a file that is called `name`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {name!r}.", "ls") from None
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}.", f"ls -ld {name}") from None
    if fault := fault_of_bytes(content, name):
        raise UsageError(f"{name} {fault.message}.", fault.hint)
    lines = split_lines(content.decode("utf-8-sig"))
    texts = tuple(line for line in lines if line.strip())
    if not texts:
        raise UsageError(f"{name} has no text in it.", "write one text a line")
    if skipped := len(lines) - len(texts):
        with invocation.progress() as progress:
            progress.note(f"{name}: {skipped} empty line{'s' if skipped > 1 else ''} skipped")
    return texts
