"""`limpet db upgrade|current|history`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from limpet.registry.database.engine import Database

__all__ = ["command"]


@click.group("db", cls=Noun)
def command() -> None:
    """The schema of the home's database."""


@command.command()
@pass_invocation
def upgrade(invocation: Invocation) -> None:
    """Bring the database to the schema of this limpet, in one transaction; an SQLite file is copied before."""
    database = _database(invocation)
    from limpet.cli.terminal import output
    from limpet.registry.database.migrate import upgrade

    done = upgrade(database)
    if invocation.json:
        output.emit(revision=done.revision, before=done.before, backup=done.backup)
    elif done.before == done.revision:
        click.echo(f"the database has the schema {done.revision} already")
    else:
        click.echo(f"the database went from the schema {done.before or 'none'} to {done.revision}")
        if done.backup is not None:
            click.echo(f"as it was before, it is kept in {done.backup}")


@command.command()
@pass_invocation
def current(invocation: Invocation) -> None:
    """Show the schema revision of the database, and the one that this limpet needs."""
    database = _database(invocation)
    from limpet.cli.terminal import output
    from limpet.registry.database.migrate import current, head

    if invocation.json:
        output.emit(revision=current(database), head=head())
    else:
        output.fields_table([("database", current(database)), ("limpet", head())])


@command.command()
@pass_invocation
def history(invocation: Invocation) -> None:
    """List all schema revisions, oldest first, and which of them the database has."""
    from alembic.script import ScriptDirectory

    from limpet.cli.terminal import output
    from limpet.registry.database.migrate import current

    found = current(_database(invocation))
    with resources.as_file(resources.files("limpet.migrations")) as folder:
        scripts = list(reversed(list(ScriptDirectory(str(folder)).walk_revisions())))
    names = [script.revision for script in scripts]
    done = names.index(found) + 1 if found in names else 0
    rows = [(script.revision, script.doc, index < done) for index, script in enumerate(scripts)]
    if invocation.json:
        revisions = [{"revision": name, "summary": summary, "applied": applied} for name, summary, applied in rows]
        output.emit(revisions=revisions, cursor=None)
    else:
        shown = [(name, "yes" if applied else "no", summary) for name, summary, applied in rows]
        output.table(("revision", "applied", "summary"), shown)


def _database(invocation: Invocation) -> Database:
    """Find the database without opening the home: an older schema must not be in the way."""
    invocation.hush()
    from limpet.errors import NotFoundError
    from limpet.registry.database.engine import connect, database_url
    from limpet.registry.settings import SETTINGS_FILE, load_settings
    from limpet.registry.store import find_home

    folder = find_home(Path.cwd(), invocation.home)
    if not (folder / SETTINGS_FILE).is_file():
        raise NotFoundError(f"There is no limpet home in {folder}.", f"limpet init --home {folder}")
    return connect(database_url(load_settings(folder).db, folder))
