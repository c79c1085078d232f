"""`limpet adapter register|list|show|history|promote|rollback|export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limpet.cli._command import Noun
from limpet.cli._invocation import Invocation, pass_invocation
from limpet.cli._trained import show_trained

if TYPE_CHECKING:
    from limpet.registry.values import AliasEvent, VersionRecord

__all__ = ["command"]


@click.group("adapter", cls=Noun)
def command() -> None:
    """The versions of tasks, and the aliases that point at them."""


@command.command()
@click.argument("task")
@click.argument("folder", type=click.Path(path_type=Path))
@pass_invocation
def register(invocation: Invocation, task: str, folder: Path) -> None:
    """Register an adapter that was trained elsewhere, in peft's format."""
    home = invocation.open()
    with invocation.progress() as progress:
        trained = home.adapter.register(task, folder, progress=progress)
    show_trained(invocation, trained)


@command.command("list")
@click.option("--task", metavar="TASK", help="Only versions of this task.")
@click.option("--method", metavar="M", help="Only versions of this method.")
@click.option("--alias", metavar="ALIAS", help="Only versions that this alias points at.")
@click.option("--where", metavar="CONDITION", help="Such as 'score >= 0.9 and seed = 0'.")
@click.option("--limit", type=int, default=50, show_default=True, metavar="N", help="Versions on a page.")
@click.option("--cursor", metavar="CURSOR", help="Go on where the page before ended.")
@pass_invocation
def list_(
    invocation: Invocation,
    task: str | None,
    method: str | None,
    alias: str | None,
    where: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List versions, newest first."""
    from limpet.cli import _output

    page = invocation.open().adapter.list(task, method, alias, where, limit, cursor)
    if invocation.json:
        _output.emit(adapters=page.items, cursor=page.cursor)
        return
    rows = [
        (
            version.reference,
            version.method,
            version.role,
            _output.digits(version.metrics.get("score")),
            ", ".join(version.aliases),
            _output.size(version.size),
            _output.short(version.digest),
            version.created_at[:19].replace("T", " "),
        )
        for version in page.items
    ]
    _output.table(("version", "method", "role", "score", "aliases", "size", "digest", "created (UTC)"), rows)
    if page.cursor:
        click.echo(f"more: --cursor {page.cursor}", err=True)


@command.command()
@click.argument("version")
@pass_invocation
def show(invocation: Invocation, version: str) -> None:
    """Show one version in full.

    VERSION is TASK@3, TASK@ALIAS, TASK@latest, or TASK for the current one.
    """
    from limpet.cli import _output

    record = invocation.open().adapter.show(version)
    if invocation.json:
        _output.emit(**_output.to_json(record))
        return
    _output.fields_table(_lines(record))
    click.echo()
    _output.table(("file", "size", "digest"), [(file.name, file.size, file.digest) for file in record.files])


def _lines(record: VersionRecord) -> list[tuple[str, object]]:
    metrics = {name: value for name, value in record.metrics.items() if name != "history"}
    return [
        ("version", record.reference),
        ("digest", record.digest),
        ("aliases", record.aliases or None),
        ("role", record.role),
        ("method", record.method),
        ("config", record.config),
        ("base", record.base_digest),
        ("data", record.data_digest),
        ("labels", record.labels),
        ("seed", record.seed),
        ("parent", record.parent),
        ("lineage", record.lineage or None),
        ("metrics", metrics),
        ("cost", record.cost),
        ("environment", vars(record.environment)),
        ("created", record.created_at),
    ]


@command.command()
@click.argument("task")
@click.argument("alias", required=False)
@pass_invocation
def history(invocation: Invocation, task: str, alias: str | None) -> None:
    """Show every move of a task's aliases, or of one, oldest first."""
    _show_events(invocation, invocation.open().adapter.history(task, alias))


@command.command()
@click.argument("version")
@click.argument("alias")
@click.option(
    "--expect", metavar="TASK@V|none", help="Move only if the alias stands here now; exit code 4 otherwise."
)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@pass_invocation
def promote(invocation: Invocation, version: str, alias: str, expect: str | None, reason: str) -> None:
    """Move an alias to a version."""
    _show_event(invocation, invocation.open().adapter.promote(version, alias, expect=expect, reason=reason))


@command.command()
@click.argument("task")
@click.argument("alias")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the history.")
@pass_invocation
def rollback(invocation: Invocation, task: str, alias: str, reason: str) -> None:
    """Move an alias back to the version before."""
    _show_event(invocation, invocation.open().adapter.rollback(task, alias, reason=reason))


@command.command()
@click.argument("version")
@click.argument("folder", type=click.Path(path_type=Path))
@pass_invocation
def export(invocation: Invocation, version: str, folder: Path) -> None:
    """Write a version's files into a new folder that plain peft loads."""
    from limpet.cli import _output

    home = invocation.open()
    record = home.adapter.show(version)
    # by number: an alias may move in between
    path = home.adapter.export(record.reference, folder)
    if invocation.json:
        names = sorted(file.name for file in path.iterdir())
        _output.emit(task=record.task, version=record.number, digest=record.digest, path=path, files=names)
    else:
        click.echo(f"wrote {record.reference} to {path}")


def _show_event(invocation: Invocation, event: AliasEvent) -> None:
    from limpet.cli import _output

    if invocation.json:
        _output.emit(**_output.to_json(event))
        return
    before = f" (was {event.task}@{event.from_number})" if event.from_number is not None else ""
    click.echo(f"{event.task}@{event.alias} is {event.task}@{event.to_number}{before}")


def _show_events(invocation: Invocation, events: Sequence[AliasEvent]) -> None:
    from limpet.cli import _output

    if invocation.json:
        _output.emit(events=events, cursor=None)
        return
    rows = [
        (
            event.created_at[:19].replace("T", " "),
            f"{event.task}@{event.alias}",
            event.action,
            None if event.from_number is None else f"{event.task}@{event.from_number}",
            f"{event.task}@{event.to_number}",
            event.actor,
            event.reason,
        )
        for event in events
    ]
    _output.table(("when (UTC)", "alias", "action", "from", "to", "who", "why"), rows)
