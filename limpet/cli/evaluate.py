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
@click.option("--audit", is_flag=True, help="Check a sample against the evaluation on record, where nothing changed.")
@click.option("--drift", type=float, metavar="X", help="The share of changed answers that an audit finds. [0.01]")
@click.option("--confidence", type=float, metavar="X", help="The probability that it finds them. [0.99]")
@pass_invocation
def command(
    invocation: Invocation,
    versions: tuple[str, ...],
    everything: bool,
    audit: bool,
    drift: float | None,
    confidence: float | None,
) -> None:
    """Evaluate versions on their tasks' evaluation splits.

    With --audit, exit code 5 where a version no longer answers as recorded.
    """
    if versions and everything:
        raise UsageError("--all and named versions exclude each other.", "limpet evaluate --all")
    if not audit and (drift is not None or confidence is not None):
        raise UsageError("--drift and --confidence are about an audit.", "limpet evaluate --audit")
    from limpet.cli import _output

    home = invocation.open()
    with invocation.progress() as progress:
        records = home.evaluate(versions, audit=audit, drift=drift, confidence=confidence, progress=progress)
    if invocation.json:
        _output.emit(evaluations=records, cursor=None)
        return
    rows = [
        (
            record.version,
            record.kind,
            record.metric,
            _output.digits(record.score),
            record.examples,
            _output.digits(record.seconds, 1),
        )
        for record in records
    ]
    _output.table(("version", "kind", "metric", "score", "examples", "seconds"), rows)
