"""`limpet status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from limpet.home.status import HomeStatus

__all__ = ["command"]


@click.command("status", cls=Command)
@pass_invocation
def command(invocation: Invocation) -> None:
    """Show a home at a glance: base, what serves each task, the last additions, and what is due."""
    from limpet.cli.terminal import output

    status = invocation.open().status()
    if invocation.json:
        output.emit(**status.to_json())
        return
    _show(status)


def _show(status: HomeStatus) -> None:
    from limpet.cli.terminal import output

    base = status.base
    known = f"{output.short(base.digest)}, {base.parameters:,} parameters" if base else "not fetched yet"
    fields = [
        ("home", status.path),
        ("base", f"{status.base_name} ({known})"),
        ("monitor", status.monitor.sentence()),
    ]
    output.fields_table(fields)
    if status.tasks:
        click.echo()
        output.table(
            ("task", "serves", "under", "score", "metric", "since"),
            [
                (
                    task.task,
                    task.version and task.version.reference,
                    task.version and ("production" if task.promoted else "latest"),
                    output.digits(task.score),
                    task.metric,
                    task.change and task.change.sentence(),
                )
                for task in status.tasks
            ],
        )
    if status.additions:
        click.echo("\nlast additions")
        output.table(
            ("version", "method", "score", "created"),
            [
                (
                    version.reference,
                    version.method,
                    output.digits(version.metrics.get("score")),
                    version.created_at[:16].replace("T", " "),
                )
                for version in status.additions
            ],
        )
    click.echo("\ndue" if status.due else "\nnothing is due")
    if status.due:
        output.table(("what", "how it is", "what to type"), [(due.kind, due.detail, due.hint) for due in status.due])
