"""`limpet evaluate`."""

from __future__ import annotations

import click

from limpet.cli._command import Command
from limpet.cli._invocation import Invocation, pass_invocation
from limpet.errors import UsageError

__all__ = ["command"]


@click.command("evaluate", cls=Command)
@click.argument("versions", nargs=-1, metavar="[TASK[@V]]...")
@click.option("--all", "everything", is_flag=True, help="Every task's current version; so is naming none.")
@pass_invocation
def command(invocation: Invocation, versions: tuple[str, ...], everything: bool) -> None:
    """Evaluate versions on their tasks' evaluation splits."""
    if versions and everything:
        raise UsageError("--all and named versions exclude each other.", "limpet evaluate --all")
    from limpet.cli import _output

    home = invocation.open()
    with invocation.progress() as progress:
        records = home.evaluate(versions, progress=progress)
    if invocation.json:
        _output.emit(evaluations=records, cursor=None)
        return
    rows = [
        (
            record.version,
            record.metric,
            _output.digits(record.score),
            record.examples,
            _output.digits(record.seconds, 1),
        )
        for record in records
    ]
    _output.table(("version", "metric", "score", "examples", "seconds"), rows)
