"""`limpet task add|list`, and the group that all verbs of `limpet task` belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from limpet.cli.commands.task.columns import given_columns, listed, read_template
from limpet.cli.commands.task.life import remove, rename
from limpet.cli.commands.task.revise import diff, revise
from limpet.cli.commands.task.rows import rows
from limpet.cli.commands.task.show import show, show_task
from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.names import check_name

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
@click.option(
    "--type",
    metavar="TYPE",
    help="classification, multi-label, token-classification, regression or generation. [classification]",
)
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
@click.option(
    "--max-length", type=int, metavar="L", help="Longest text in tokens. [as 99 % of the texts need, at least 128]"
)
@click.option("--labels", metavar="A,B,C", help="The labels in the order of their ids. [the data's own, else sorted]")
@click.option(
    "--near-duplicates", metavar="WHAT", help="drop, report or keep training examples like evaluation ones. [drop]"
)
@click.option("--overlong", metavar="WHAT", help="cut, drop or refuse what is longer than the limits. [cut]")
@click.option(
    "--format",
    metavar="FORM",
    help="auto, columns, messages, sharegpt, prompt-completion or alpaca. [generation: found out of the data]",
)
@click.option("--system", metavar="TEXT", help="A system message for what has none. [what all conversations share]")
@click.option("--chat-template", metavar="FILE", help="A Jinja chat template in place of the base's. [generation]")
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
    chat_template: str | None,
    **options: Any,
) -> None:
    """Read a dataset, split it and keep it as a task."""
    given = given_columns(name, label, target, options=options)
    check_name("task", name)
    if labels is not None:
        given["labels"] = listed(labels)
    if chat_template is not None:
        given["chat_template"] = read_template(Path(chat_template))
    home = invocation.open()
    with invocation.progress() as progress:
        progress.note(f"reading {data}")
        record = home.task.add(name, data, **given)
    show_task(invocation, home, record)


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
            *(record.split(split).examples for split in ("train", "validation")),
            sum(part.examples for part in record.evaluation_parts),
            record.definition.metric,
            output.short(record.data_digest),
        )
        for record in records
    ]
    output.table(("task", "type", "labels", "train", "validation", "evaluation", "metric", "data"), rows)


for _verb in (show, revise, diff, rows, rename, remove):
    command.add_command(_verb)
