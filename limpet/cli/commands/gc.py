"""`limpet gc`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from limpet.cli.commands._empty_cache import empty_cache
from limpet.cli.invocation.command import Command
from limpet.cli.invocation.confirm import confirm
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError
from limpet.first_few import first_few

if TYPE_CHECKING:
    from limpet.registry.cleanup.gc import Collection

__all__ = ["command"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}
_LISTED = 20


@click.command("gc", cls=Command)
@click.option(
    "--grace",
    metavar="TIME",
    help="How long what is new, newly deleted or, in the cache, lately used stays: 24h, 30m, 7d, or 0. "
    "[24h; with --cache 0]",
)
@click.option("--cache", is_flag=True, help="Empty this machine's cache instead; all of it can be had again.")
@click.option(
    "--dry-run/--no-dry-run", default=None, help="Show what would go and do nothing, which is what gc does by itself."
)
@click.option("--yes", is_flag=True, help="Remove it without asking.")
@click.option(
    "--today", metavar="DATE", help="The date, YYYY-MM-DD, where the home's events don't bear out the clock."
)
@pass_invocation
def command(
    invocation: Invocation, grace: str | None, cache: bool, *, dry_run: bool | None, yes: bool, today: str | None
) -> None:
    """Show what nothing needs any more; remove it with --yes.

    First retention deletes versions by the home's policy; then files go that nothing has needed for the grace period.
    With --no-dry-run it asks before it removes anything.

    The cache is the machine's: --cache needs no home, and leaves what another process uses.
    """
    from limpet.cli.terminal import output

    # by itself gc only looks; --dry-run wins over --yes
    removes = not (dry_run or (dry_run is None and not yes))
    if cache:
        empty_cache(invocation, _seconds("0" if grace is None else grace), removes, yes=yes)
        return
    home, seconds = invocation.open(), _seconds("24h" if grace is None else grace)
    report = home.gc(seconds, today=today)
    if removes:
        confirm(f"Remove {_sum(report)}?", yes)
        with invocation.progress() as progress:
            report = home.gc(seconds, dry_run=False, today=today, progress=progress)
    if invocation.json:
        output.emit(**output.to_json(report), bytes=report.bytes)
    else:
        _show(report)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if match is None:
        raise UsageError(f"--grace takes a time such as 24h, not {text!r}.", "--grace 24h, --grace 30m, --grace 0")
    return int(match[1]) * _UNITS[match[2]]


def _sum(report: Collection) -> str:
    from limpet.cli.terminal import output

    files = sum(kind.count for kind in (report.deleted, report.orphans, report.temporary))
    sums = [_count(report.retention.count, "version")] if report.retention.count else []
    return " and ".join([*sums, f"{_count(files, 'file')} ({output.size(report.bytes)})"])


def _waiting(report: Collection) -> str:
    """Say what waits for the grace period, and until when; nothing where nothing does."""
    from limpet.cli.terminal import output

    if report.waiting_from is None or report.waiting_until is None:
        return ""
    first, last = (when[:16].replace("T", " ") for when in (report.waiting_from, report.waiting_until))
    until = f"until {last} UTC" if first == last else f"the first until {first} UTC, the last until {last} UTC"
    files = f"{_count(report.waiting.count, 'file')} ({output.size(report.waiting.bytes)})"
    waits = "waits" if report.waiting.count == 1 else "wait"
    return f"{files} that nothing needs {waits} for the grace period, {until}; --grace 0 does not wait"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _show(report: Collection) -> None:
    from limpet.cli.terminal import output
    from limpet.cli.terminal.sanitize import plain

    rows = [
        ("versions by retention", report.retention),
        ("files of deleted versions", report.deleted),
        ("files that nothing names", report.orphans),
        ("temporary files", report.temporary),
    ]
    output.table(("what", "count", "size"), [(name, one.count, output.size(one.bytes)) for name, one in rows])
    if report.versions:
        click.echo(f"retention {'lets' if report.dry_run else 'let'} go: {first_few(report.versions, _LISTED)}")
    if report.stray_names:
        # a file of somebody else may have any name
        click.echo(f"not limpet's, and left alone: {plain(first_few(report.stray_names, _LISTED))}")
    if line := _waiting(report):
        click.echo(line)
    if report.dry_run and report.clock_doubt:
        click.echo(f"{report.clock_doubt} To remove anything needs --today DATE.")
    click.echo(f"would remove {_sum(report)}; --yes does it" if report.dry_run else f"removed {_sum(report)}")
