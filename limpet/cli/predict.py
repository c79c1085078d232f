"""`limpet predict`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from limpet.cli._command import Command
from limpet.cli._invocation import Invocation, pass_invocation
from limpet.cli._plain import plain
from limpet.errors import NotFoundError, UsageError

__all__ = ["command"]


@click.command("predict", cls=Command)
@click.argument("task")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--file", metavar="F", help="A file with one text a line, - for stdin; empty lines are skipped.")
@pass_invocation
def command(invocation: Invocation, task: str, texts: tuple[str, ...], file: str | None) -> None:
    """Answer texts with a version of a task.

    TASK is TASK, TASK@3 or TASK@ALIAS.
    """
    if bool(texts) == (file is not None):
        raise UsageError(
            "Predict takes texts or --file, and one of them.", f"limpet predict {task} 'a text to classify'"
        )
    from limpet.cli import _output

    home = invocation.open()
    version = home.adapter.show(task)
    predictions = home.predict(version.reference, texts or _read(str(file)))
    if invocation.json:
        _output.emit(task=version.task, version=version.number, labels=version.labels, predictions=predictions)
        return
    shown = [answer.shown for answer in predictions]
    if len(shown[0]) == 1:
        # nothing but an answer needs no table
        click.echo("\n".join(plain(str(value)) for answer in shown for value in answer.values()))
        return
    rows = [
        tuple(_output.digits(value) if isinstance(value, float) else value for value in answer.values())
        for answer in shown
    ]
    _output.table(tuple(shown[0]), rows)


def _read(name: str) -> tuple[str, ...]:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise NotFoundError(f"There is no file {name!r}.", "ls") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8: byte {error.start} can't be read.", f"iconv -f latin1 -t utf-8 {name}"
        ) from None
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}.", f"ls -ld {name}") from None
    texts = tuple(line for line in lines if line.strip())
    if not texts:
        raise UsageError(f"{name} has no text in it.", "write one text a line")
    return texts
