"""`limpet task show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.registry.values import TaskRecord

__all__ = ["show", "show_task"]


@click.command(cls=Command)
@click.argument("name")
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show a task: its definition, splits and labels."""
    home = invocation.open()
    show_task(invocation, home, home.task.show(name))


def show_task(invocation: Invocation, home: Home, record: TaskRecord) -> None:
    """Print a task in full."""
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
