"""`limpet du`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.terminal.sanitize import plain

if TYPE_CHECKING:
    from limpet.registry.cleanup.usage import Usage

__all__ = ["command"]


@click.command("du", cls=Command)
@pass_invocation
def command(invocation: Invocation) -> None:
    """Show what a home takes on disk by kind, what gc would free, and what the cache takes."""
    from limpet.cli.terminal import output

    usage = invocation.open().du()
    if invocation.json:
        output.emit(**_to_json(usage))
        return
    rows = [(kind, tally.count, output.size(tally.bytes)) for kind, tally in usage.kinds.items()]
    output.table(("what", "files", "size"), rows)
    for line in _lines(usage):
        click.echo(plain(line))


def _to_json(usage: Usage) -> dict[str, object]:
    from limpet.cli.terminal import output

    gc = usage.gc
    return {
        "home": str(usage.home),
        "bytes": usage.bytes,
        "kinds": usage.kinds,
        "shared": usage.shared,
        "gc": None if gc is None else output.to_json(gc) | {"bytes": gc.bytes},
        "cache": output.to_json(usage.cache) | {"bytes": usage.cache.bytes},
    }


def _lines(usage: Usage) -> list[str]:
    from limpet.cli.terminal import output

    lines = [f"the home takes {output.size(usage.bytes)}: {usage.home}"]
    if usage.shared.count:
        lines.append(
            f"{_count(usage.shared.count)} stand{'s' if usage.shared.count == 1 else ''} for several, which saves "
            f"{output.size(usage.shared.bytes)}"
        )
    if usage.gc is None:
        lines.append("limpet gc says why it may not collect here")
    else:
        waits = usage.gc.waiting
        later = f"; {output.size(waits.bytes)} wait for its grace period" if waits.count else ""
        lines.append(f"limpet gc would free {output.size(usage.gc.bytes)}{later}")
    cache = usage.cache
    lines.append(
        f"the cache, which all homes share, takes {output.size(cache.bytes)}: {cache.folder}; "
        "limpet gc --cache shows and empties it"
    )
    return lines


def _count(files: int) -> str:
    return f"{files} file" if files == 1 else f"{files} files"
