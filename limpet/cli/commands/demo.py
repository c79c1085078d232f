"""`limpet demo`."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limpet.cli.commands._trained import mirroring_after
from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import InterruptedRunError

if TYPE_CHECKING:
    from limpet.forgetting.report.values import Report
    from limpet.home import Home

__all__ = ["command"]

_HOME = Path("limpet-demo") / ".limpet"
_EXAMPLE = "The central bank raised interest rates for the third time this year."


@click.command("demo", cls=Command)
@pass_invocation
def command(invocation: Invocation) -> None:
    """Learn four real tasks by three arms, and show who forgot what.

    Takes minutes. Everything goes into limpet-demo/ here, or into --home; interrupted, the same command goes on.
    """
    folder = invocation.home or _HOME
    home = _open(invocation, folder)
    with (
        mirroring_after(home),
        invocation.progress() as progress,
        resources.as_file(resources.files("limpet.forgetting.stream") / "ready" / "demo.yaml") as file,
    ):
        try:
            report, _ = home.stream.run(file, mirror=False, progress=progress)
        except InterruptedRunError as error:
            error.hint = f"limpet demo --home {folder}" if invocation.home else "limpet demo"
            raise
        progress.note("writing the report")
        paths = _write_reports(report, folder.parent if folder.name == ".limpet" else folder)
        progress.finish()
        _show(invocation, report, folder, paths=paths)


def _open(invocation: Invocation, folder: Path) -> Home:
    """Open the demo's home; the one that an earlier, interrupted demo made is used again."""
    invocation.hush()
    from limpet.home import init, open_home

    return open_home(folder) if (folder / "limpet.toml").exists() else init(folder)


def _write_reports(report: Report, folder: Path) -> list[Path]:
    from limpet.cli.commands.report import render_text
    from limpet.cli.terminal import output

    paths = []
    for form in ("html", "json"):
        path = folder / f"report.{form}"
        output.write(path, render_text(report, form))
        paths.append(path)
    return paths


def _show(invocation: Invocation, report: Report, folder: Path, *, paths: list[Path]) -> None:
    from limpet.cli.terminal import output

    if invocation.json:
        output.emit(**report.to_json())
        return
    from limpet.forgetting.render.terminal_report import matrices
    from limpet.forgetting.report.conclusion import sentences

    output.render(matrices(report))
    click.echo()
    for sentence in sentences(report):
        click.echo(f"- {sentence}")
    click.echo()
    click.echo("report: " + ", ".join(str(path) for path in paths))
    click.echo("\nnext:")
    task = report.tasks[0].name
    for typed in (
        f"ui --home {folder}",
        f"report --home {folder}",
        f"adapter list --home {folder}",
        f'predict {task} "{_EXAMPLE}" --home {folder}',
    ):
        click.echo(f"  {_program()} {typed}")


def _program() -> str:
    """What to type for `limpet` here: its path where the environment it is installed in is not active."""
    return "limpet" if shutil.which("limpet") else os.path.relpath(sys.argv[0])
