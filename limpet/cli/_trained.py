"""What an addition came to, for `limpet train` and `limpet adapter register`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli._invocation import Invocation

if TYPE_CHECKING:
    from limpet.home import Trained

__all__ = ["show_trained"]


def show_trained(invocation: Invocation, trained: Trained) -> None:
    """Print the version, its score, and the scores of all tasks now."""
    from limpet.cli import _output

    if invocation.json:
        _output.emit(
            version=trained.version,
            created=trained.created,
            row=trained.row,
            promoted=trained.promoted,
            warnings=trained.warnings,
        )
        return
    version = trained.version
    state = "registered" if trained.created else "the same bytes were registered before as"
    score = _output.digits(version.metrics.get("score"))
    click.echo(f"{state} {version.reference} ({version.method}, score {score}, {_output.short(version.digest)})")
    if trained.promoted:
        click.echo(f"{version.task}@{trained.promoted.alias} is now {version.reference}")
    if len(trained.row) > 1:
        click.echo()
        _output.table(("task", "score now"), [(task, _output.digits(now)) for task, now in trained.row.items()])
    _output.warn(trained.warnings)
