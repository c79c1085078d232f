"""`limpet evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError

if TYPE_CHECKING:
    from limpet.registry.values import EvaluationRecord

__all__ = ["command"]


@click.command("evaluate", cls=Command)
@click.argument("versions", nargs=-1, metavar="[TASK[@V]]...")
@click.option("--all", "everything", is_flag=True, help="Every task's current version; so is naming none.")
@click.option("--audit", is_flag=True, help="Check a sample against the evaluation on record, where nothing changed.")
@click.option("--drift", type=float, metavar="X", help="The share of changed answers that an audit finds. [0.01]")
@click.option("--confidence", type=float, metavar="X", help="The probability that it finds them. [0.99]")
@click.option("--accept", is_flag=True, help="Resolve a version's alarm: it is held against what it answers now.")
@click.option("--reason", default="", metavar="TEXT", help="Why it is accepted, for the log.")
@pass_invocation
def command(
    invocation: Invocation,
    /,
    versions: tuple[str, ...],
    everything: bool,
    *,
    audit: bool,
    accept: bool,
    reason: str,
    **precision: float | None,
) -> None:
    """Evaluate versions on their tasks' evaluation splits.

    Exit code 5 where a version does not answer as when it was registered: it has an alarm then, until that is
    accepted with a reason.
    """
    if versions and everything:
        raise UsageError("--all and named versions exclude each other.", "limpet evaluate --all")
    if not audit and any(value is not None for value in precision.values()):
        raise UsageError("--drift and --confidence are about an audit.", "limpet evaluate --audit")
    if accept and (len(versions) != 1 or audit or not reason.strip()):
        hint = "limpet evaluate TASK@V --accept --reason TEXT"
        raise UsageError("An alarm is accepted for one version at a time, in full and with a reason.", hint)
    if reason and not accept:
        raise UsageError("A reason is for what is accepted.", "limpet evaluate TASK@V --accept --reason TEXT")
    from limpet.cli.terminal import output

    home = invocation.open()
    with invocation.progress() as progress:
        if accept:
            records: tuple[EvaluationRecord, ...] = (home.accept(versions[0], reason, progress=progress),)
        else:
            records = home.evaluate(versions, audit=audit, progress=progress, **precision)
    if invocation.json:
        output.emit(evaluations=records, cursor=None)
        return
    rows = [
        (
            record.version,
            record.kind,
            record.metric,
            output.digits(record.score),
            record.examples,
            output.digits(record.seconds, 1),
        )
        for record in records
    ]
    output.table(("version", "kind", "metric", "score", "examples", "seconds"), rows)
