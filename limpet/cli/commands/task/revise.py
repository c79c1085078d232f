"""`limpet task revise|diff`: the next revision of a task's data, and what tells two apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from limpet.cli.commands.task.columns import given_columns, listed
from limpet.cli.commands.task.show import show_task
from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError
from limpet.names import check_name, parse_task

if TYPE_CHECKING:
    from limpet.training.data.task_diff import TaskDifference

__all__ = ["diff", "revise"]

_SHOWN = 20


@click.command(cls=Command)
@click.argument("name")
@click.option("--data", required=True, metavar="SPEC", help="All rows anew, or those that are new or corrected.")
@click.option("--text", "text_column", metavar="COL", help="The column of the texts. [as before]")
@click.option("--label", metavar="COL", help="The column of the labels. [as before]")
@click.option("--target", metavar="COL", help="The column of the targets, where they are no labels. [as before]")
@click.option("--labels", metavar="A,B,C", help="The labels in the order of their ids. [as before, new ones last]")
@click.option("--train-size", type=int, metavar="N", help="How many of the new rows to train on. [all]")
@click.option("--eval-size", type=int, metavar="N", help="How many of the new rows to evaluate on. [30 %]")
@pass_invocation
def revise(
    invocation: Invocation,
    /,
    name: str,
    data: str,
    *,
    label: str | None,
    target: str | None,
    labels: str | None,
    **options: Any,
) -> None:
    """Add rows to a task, correct its labels, or bring new ones, as its next revision.

    A text that the task has already keeps its place and takes the label that it has in these data. What was evaluated
    on stays, and is still evaluated; where labels were corrected, every kept evaluation is scored anew. New rows for
    evaluation are a split of their own.
    """
    check_name("task", name)
    given = given_columns(name, label, target, options=options)
    if labels is not None:
        given["labels"] = listed(labels)
    home = invocation.open()
    known = home.task.show(name)
    with invocation.progress() as progress:
        progress.note(f"reading {data}")
        record = home.task.revise(name, data, progress=progress, **given)
        progress.finish()
    if record.revision == known.revision:
        invocation.note(f"these data change nothing: {record.reference} stays as it is")
    show_task(invocation, home, record)


@click.command(cls=Command)
@click.argument("a", metavar="NAME@r1")
@click.argument("b", metavar="NAME@r2")
@pass_invocation
def diff(invocation: Invocation, a: str, b: str) -> None:
    """Say what tells two revisions of a task apart: rows, labels and counts."""
    from limpet.cli.terminal import output

    for one in (a, b):
        parse_task(one)
    if a == b:
        raise UsageError("A revision does not differ from itself.", "limpet task diff NAME@r1 NAME@r2")
    difference = invocation.open().task.diff(a, b)
    if invocation.json:
        output.emit(**output.to_json(difference))
        return
    added, removed = (sum(map(len, rows.values())) for rows in (difference.added, difference.removed))
    output.fields_table(
        [
            ("a", difference.a),
            ("b", difference.b),
            *((name, f"{before} -> {now}") for name, (before, now) in difference.definition.items()),
            ("labels added", difference.labels_added or "none"),
            ("labels removed", difference.labels_removed or "none"),
            ("rows", f"{difference.unchanged} as before, {len(difference.corrected)} corrected, {added} added"),
            *((("rows removed", removed),) if removed else ()),
            *((("rows moved", f"{len(difference.moved)} stand in another split"),) if difference.moved else ()),
        ]
    )
    for title, counts in (("split", difference.examples), ("label", difference.label_counts)):
        if counts:
            click.echo()
            rows = [(name, before, now, f"{now - before:+d}") for name, (before, now) in counts.items()]
            output.table((title, difference.a, difference.b, "change"), rows)
    _show_rows(difference)


def _show_rows(difference: TaskDifference) -> None:
    from limpet.cli.terminal import output

    if difference.corrected:
        rows = [
            (_plain(row.before), _plain(row.now), row.split_now, row.text) for row in difference.corrected[:_SHOWN]
        ]
        click.echo()
        output.table(("was", "is", "split", "corrected text"), rows)
        _and_more(len(difference.corrected))
    for title, by_split in (("added text", difference.added), ("removed text", difference.removed)):
        every = [(_plain(target), split, text) for split, rows in by_split.items() for text, target in rows]
        if every:
            click.echo()
            output.table(("label", "split", title), every[:_SHOWN])
            _and_more(len(every))


def _and_more(number: int) -> None:
    if number > _SHOWN:
        click.echo(f"and {number - _SHOWN} more: --json has them all")


def _plain(target: object) -> str:
    return " ".join(map(str, target)) if isinstance(target, Sequence) and not isinstance(target, str) else str(target)
