"""`limpet task rows`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import LimpetError

if TYPE_CHECKING:
    from limpet.training.data.rows import Row

__all__ = ["rows"]


@click.command(cls=Command)
@click.argument("version")
@click.option("--split", default="train", show_default=True, metavar="SPLIT", help="train, validation or evaluation.")
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "csv"]), help="The form of the rows. [by --out, or jsonl]"
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH", help="Write them to a file.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="No more rows than this. [all]")
@click.option("--cursor", type=click.IntRange(1), default=1, metavar="ROW", help="Begin at this row.")
@pass_invocation
def rows(
    invocation: Invocation,
    version: str,
    *,
    split: str,
    form: str | None,
    out: Path | None,
    limit: int | None,
    cursor: int,
) -> None:
    """Give the rows that a version was learned on.

    VERSION is TASK@3, TASK@ALIAS, TASK@latest, or TASK for the current one. Rows are numbered in the order that the
    split has them, and have the columns that limpet task add reads again.
    """
    from limpet.cli.terminal import output

    found = islice(invocation.open().task.rows(version, split, first=cursor), limit)
    if invocation.json:
        listed = list(found)
        more = listed[-1].row + 1 if limit is not None and len(listed) == limit else None
        output.emit(version=version, split=split, rows=[row.content() for row in listed], cursor=more)
        return
    as_csv = form == "csv" if form else out is not None and out.suffix.lower() == ".csv"
    if out is None:
        _write(sys.stdout, found, as_csv)
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            count = _write(file, found, as_csv)
    except OSError as error:
        raise LimpetError(f"{out} can't be written: {error.strerror}.", f"ls -ld {out.parent}") from error
    click.echo(f"{count} rows are in {out}", err=True)


def _write(file: TextIO, found: Iterable[Row], as_csv: bool) -> int:
    """Write rows one by one, and return how many they were."""
    count = 0
    writer = csv.writer(file, lineterminator="\n")
    for count, row in enumerate(found, 1):
        content = row.content()
        if not as_csv:
            file.write(json.dumps(content, ensure_ascii=False) + "\n")
            continue
        if count == 1:
            writer.writerow(content)
        writer.writerow([_cell(key, value) for key, value in content.items()])
    return count


def _cell(key: str, value: object) -> object:
    """Return a value as a CSV file has it: labels with bars between them, words and tags with blanks."""
    if not isinstance(value, list):
        return value
    return ("|" if key == "labels" else " ").join(map(str, value))
