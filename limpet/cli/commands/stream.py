"""`limpet stream run|list|ready|show`."""

from __future__ import annotations

from pathlib import Path

import click

from limpet.cli.commands._trained import mirroring_after
from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation

__all__ = ["command"]


@click.group("stream", cls=Noun)
def command() -> None:
    """Sequential task training: several arms, several seeds."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path))
@pass_invocation
def run(invocation: Invocation, file: Path) -> None:
    """Run a stream file, or go on where an earlier run had stopped; ends with the report.

    FILE may also be the name of a ready stream, such as five-topics; limpet stream ready lists them.
    """
    from limpet.cli.terminal import output

    home = invocation.open()
    with mirroring_after(home), invocation.progress() as progress:
        report, _ = home.stream.run(file, mirror=False, progress=progress)
        progress.finish()
        if invocation.json:
            output.emit(**report.to_json())
        else:
            from limpet.forgetting.render.terminal_report import render_table

            output.render(render_table(report))


@command.command("list")
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List all streams, oldest first."""
    from limpet.cli.terminal import output

    records = invocation.open().stream.list()
    if invocation.json:
        output.emit(streams=records, cursor=None)
        return
    rows = [
        (record.name, len(record.tasks), output.short(record.digest), record.updated_at[:19].replace("T", " "))
        for record in records
    ]
    output.table(("stream", "tasks", "digest", "updated (UTC)"), rows)


@command.command()
@pass_invocation
def ready(invocation: Invocation) -> None:
    """List the ready streams, which limpet brings along."""
    from limpet.cli.terminal import output
    from limpet.forgetting.stream.stream_file import read_stream, ready_streams

    specs = [read_stream(Path(name)) for name in ready_streams()]
    if invocation.json:
        listed = [
            {"name": spec.name, "tasks": [task.name for task in spec.tasks], "arms": [arm.name for arm in spec.arms]}
            for spec in specs
        ]
        output.emit(streams=listed, cursor=None)
        return
    rows = [(spec.name, len(spec.tasks), len(spec.arms), len(spec.seeds), spec.orders) for spec in specs]
    output.table(("stream", "tasks", "arms", "seeds", "orders"), rows)


@command.command()
@click.argument("name")
@pass_invocation
def show(invocation: Invocation, name: str) -> None:
    """Show one stream: its tasks and its file."""
    from limpet.cli.terminal import output

    record = invocation.open().stream.show(name)
    if invocation.json:
        output.emit(**output.to_json(record))
        return
    output.fields_table(
        [
            ("stream", record.name),
            ("digest", record.digest),
            ("base", record.base_digest),
            ("tasks", record.tasks),
            ("created", record.created_at),
            ("updated", record.updated_at),
        ]
    )
    if record.spec:
        import yaml

        click.echo("\n" + yaml.safe_dump(output.to_json(record.spec), sort_keys=False, allow_unicode=True).rstrip())
