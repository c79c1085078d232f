"""`limpet adapter export`."""

from __future__ import annotations

from pathlib import Path

import click

from limpet.cli._command import Command
from limpet.cli._invocation import Invocation, pass_invocation

__all__ = ["export"]


@click.command(cls=Command)
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
