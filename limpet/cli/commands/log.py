"""`limpet log`."""

from __future__ import annotations

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation

__all__ = ["command"]


@click.command("log", cls=Command)
@click.option("--subject", metavar="X", help="Only what was done to this, such as news@3 or news@production.")
@click.option("--limit", type=int, default=50, show_default=True, metavar="N", help="Events on a page.")
@click.option("--cursor", metavar="CURSOR", help="Go on where the page before ended.")
@pass_invocation
def command(invocation: Invocation, subject: str | None, limit: int, *, cursor: str | None) -> None:
    """Show who did what in this home, newest first."""
    from limpet.cli.terminal import output

    page = invocation.open().log(subject, limit, cursor)
    if invocation.json:
        output.emit(events=page.items, cursor=page.cursor)
        return
    rows = [
        (event.created_at[:19].replace("T", " "), event.actor, event.action, event.subject, event.detail)
        for event in page.items
    ]
    output.table(("when (UTC)", "who", "action", "subject", "detail"), rows)
    if page.cursor:
        click.echo(f"more: --cursor {page.cursor}", err=True)
