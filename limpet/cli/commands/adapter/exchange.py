"""`limpet adapter export|import`."""

from __future__ import annotations

from pathlib import Path

import click

from limpet.cli.commands._trained import mirroring_after
from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.terminal.sanitize import plain
from limpet.names import shown_method

__all__ = ["export", "import_"]


@click.command(cls=Command)
@click.argument("version")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--without-data", is_flag=True, help="Leave the task's examples out of the bundle.")
@click.option("--merged", is_flag=True, help="The base with the update merged in, for plain transformers.")
@click.option(
    "--for",
    "engine",
    type=click.Choice(["peft"]),
    help="A version that writes text, in the names of AutoModelForCausalLM, as peft and trl load it.",
)
@pass_invocation
def export(
    invocation: Invocation, version: str, path: Path, *, without_data: bool, merged: bool, engine: str | None
) -> None:
    """Write a version's files into a new folder that plain peft loads, or into one bundle.

    PATH is the folder; if it ends in .limpet, it is a bundle, which another home takes in with
    limpet adapter import. With --merged, the folder is a model of its own, with the head beside it.
    """
    from limpet.cli.terminal import output

    home = invocation.open()
    record = home.adapter.show(version)
    # by number: an alias may move in between
    written = home.adapter.export(record.reference, path, data=not without_data, merged=merged, for_engine=engine)
    if invocation.json:
        names = sorted(file.name for file in written.iterdir()) if written.is_dir() else None
        output.emit(task=record.task, version=record.number, digest=record.digest, path=written, files=names)
    else:
        click.echo(f"wrote {record.reference} to {plain(str(written))}")


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@pass_invocation
def import_(invocation: Invocation, file: Path) -> None:
    """Take a version in from a bundle that another home has exported.

    The base must be known here. The task must be known, or come with its data. Nothing is evaluated.
    """
    from limpet.cli.terminal import output

    home = invocation.open()
    with mirroring_after(home):
        version, created = home.adapter.import_bundle(file, mirror=False)
        if invocation.json:
            output.emit(version=version, created=created)
            return
        state = "imported" if created else "the same bytes were registered before as"
        click.echo(f"{state} {version.reference} ({shown_method(version.method)}, {output.short(version.digest)})")
        if created and not invocation.quiet:
            click.echo(f"it was not evaluated here: limpet evaluate {version.reference}", err=True)
