"""`limpet task add|list|show`."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import click

from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError
from limpet.names import check_name

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.registry.values import TaskRecord

__all__ = ["command"]


@click.group("task", cls=Noun)
def command() -> None:
    """Datasets with their type, labels, metric and splits."""


@command.command()
@click.argument("name")
@click.option(
    "--data",
    required=True,
    metavar="SPEC",
    help="sample:NAME, hub:org/name, or files: csv:, jsonl:, parquet: with PATH or train=PATH,eval=PATH.",
)
@click.option("--type", metavar="TYPE", help="The type of task. [classification]")
@click.option("--text", "text_column", metavar="COL", help="The column of the texts. [found by its name]")
@click.option("--label", metavar="COL", help="The column of the labels. [found by its name]")
@click.option("--target", metavar="COL", help="The column of the targets, where they are no labels.")
@click.option("--metric", metavar="M", help="What the task is scored by. [the type's own]")
@click.option("--train-size", type=int, metavar="N", help="How many training examples to draw. [all]")
@click.option("--eval-size", type=int, metavar="N", help="How many evaluation examples to draw. [all]")
@click.option("--split-seed", type=int, metavar="S", help="Seeds every draw. [0]")
@click.option("--prompt", metavar="TEMPLATE", help="What an answer is written after, with {text} in it. [generation]")
@click.option(
    "--max-new-tokens", type=int, metavar="N", help="Longest answer in tokens. [generation: what the targets need]"
)
@click.option("--max-length", type=int, metavar="L", help="Longest text in tokens. [128]")
@click.option("--labels", metavar="A,B,C", help="The labels in the order of their ids. [the data's own, else sorted]")
@click.option(
    "--near-duplicates", metavar="WHAT", help="drop, report or keep training examples like evaluation ones. [drop]"
)
@click.option("--overlong", metavar="WHAT", help="cut, drop or refuse what is longer than the limits. [cut]")
@pass_invocation
def add(
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
    """Read a dataset, split it and keep it as a task."""
    if label is not None and target is not None:
        raise UsageError("--label and --target name the same column.", f"limpet task add {name} --label {label}")
    check_name("task", name)
    given = {key: value for key, value in options.items() if value is not None}
    if (column := label or target) is not None:
        given["target_column"] = column
    if labels is not None:
        given["labels"] = _listed(labels)
    home = invocation.open()
    with invocation.progress() as progress:
        progress.note(f"reading {data}")
        record = home.task.add(name, data, **given)
    _show(invocation, home, record)


def _listed(labels: str) -> list[str]:
    """Return labels with commas between them; one that has a comma itself stands between quotes."""
    return [label.strip() for label in next(csv.reader([labels]), [])]


@command.command("list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List all tasks, oldest first."""
    from limpet.cli.terminal import output

    records = invocation.open().task.list()
    if invocation.json:
        output.emit(tasks=records, cursor=None)
        return
    rows = [
        (
            record.name,
            record.definition.type,
            len(record.labels),
            *(record.split(split).examples for split in ("train", "validation", "evaluation")),
            record.definition.metric,
            output.short(record.data_digest),
        )
        for record in records
    ]
    output.table(("task", "type", "labels", "train", "validation", "evaluation", "metric", "data"), rows)


@command.command()
@click.argument("name")
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show a task: its definition, splits and labels."""
    home = invocation.open()
    _show(invocation, home, home.task.show(name))


def _show(invocation: Invocation, home: Home, record: TaskRecord) -> None:
    from limpet.cli.terminal import output

    baseline = home.task.majority_baseline(record.name)
    if invocation.json:
        cut = home.task.cut(record.name)
        output.emit(**output.to_json(record), cut=cut, majority_baseline=baseline)
        return
    definition, checks = record.definition, dict(record.checks)
    # the notes tell what there is to tell of it
    if checks.pop("cut", "unknown") is None:
        checks["cut"] = "counted at training, as the base is not on this machine yet"
    checks.pop("majority_baseline", None)
    notes, label_order = checks.pop("notes", []), checks.pop("label_order", None)
    for rule, usual in (("near_duplicates_rule", "drop"), ("overlong_rule", "cut")):
        if checks.get(rule) == usual:
            del checks[rule]
    output.fields_table(
        [
            ("task", record.name),
            ("type", f"{definition.type}, scored by {definition.metric}"),
            ("majority baseline", output.digits(baseline)),
            ("data", f"{definition.data}, {definition.text_column} -> {definition.target_column}"),
            ("digest", record.data_digest),
            ("labels", record.labels),
            *((("label order", label_order),) if label_order else ()),
            ("longest text", f"{definition.max_length} tokens"),
            *((key.replace("_", " "), value) for key, value in definition.options.items()),
            ("split seed", definition.split_seed),
            *((key.replace("_", " "), value) for key, value in checks.items()),
            *(("note", note) for note in notes),
            ("created", record.created_at),
        ]
    )
    click.echo()
    rows = [(split.name, split.examples, split.digest) for split in record.splits]
    output.table(("split", "examples", "digest"), rows)
