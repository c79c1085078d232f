"""`limpet gc --cache`: what is in the cache of this machine, and how it is emptied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.confirm import confirm
from limpet.cli.invocation.invocation import Invocation

if TYPE_CHECKING:
    from limpet.registry.cache import Emptied

__all__ = ["empty_cache"]


def empty_cache(invocation: Invocation, unused_seconds: int, removes: bool, *, yes: bool) -> None:
    """Show what would leave the cache, or remove it.

    Args:
        invocation: The call.
        unused_seconds: What was used within this time stays.
        removes: Whether to remove it, after a question.
        yes: Answers the question.
    """
    from limpet.cli.terminal import output
    from limpet.registry.cache import empty

    report = empty(unused_seconds=unused_seconds)
    if removes:
        confirm(f"Remove {_sum(report)} from {report.folder}?", yes)
        report = empty(dry_run=False, unused_seconds=unused_seconds)
    if invocation.json:
        output.emit(**output.to_json(report), bytes=report.bytes)
    else:
        _show(report)


def _show(report: Emptied) -> None:
    from limpet.cli.terminal import output

    rows = [
        (kind, part.items, output.size(part.bytes), part.in_use or "") for kind, part in sorted(report.kinds.items())
    ]
    if rows:
        output.table(("what", "count", "size", "in use"), rows)
    end = "; --yes does it" if report.dry_run else ""
    click.echo(f"{'would remove' if report.dry_run else 'removed'} {_sum(report)} from {report.folder}{end}")


def _sum(report: Emptied) -> str:
    from limpet.cli.terminal import output

    count = sum(part.items for part in report.kinds.values())
    return f"{count} {'item' if count == 1 else 'items'} ({output.size(report.bytes)})"
