"""What an addition came to, for `limpet train` and `limpet adapter register`, and its mirror, after it was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.invocation import Invocation
from limpet.cli.terminal.aliases import alias_line
from limpet.cli.terminal.sanitize import plain
from limpet.errors import GateError
from limpet.names import shown_method

if TYPE_CHECKING:
    from limpet.home import Home, Trained

__all__ = ["mirroring_after", "show_trained", "showing_refused"]


@contextmanager
def mirroring_after(home: Home) -> Iterator[None]:
    """Mirror what a block has added once it has told what came of it; also a version that the gate refused."""
    try:
        yield
    except GateError:
        _mirror(home)
        raise
    _mirror(home)


@contextmanager
def showing_refused(invocation: Invocation) -> Iterator[None]:
    """Show what an addition came to also where the gate refuses its promotion."""
    from limpet.home import Trained

    try:
        yield
    except GateError as error:
        if isinstance(error.outcome, Trained):
            show_trained(invocation, error.outcome)
        raise


def _mirror(home: Home) -> None:
    from limpet.cli.terminal import output

    try:
        output.warn(home.mirror(wait=False))
    except KeyboardInterrupt:
        # what the command was asked for is done and told
        output.warn(["The MLflow mirror is behind: Ctrl-C ended it. It catches up at the next sync."])


def show_trained(invocation: Invocation, trained: Trained) -> None:
    """Print the version, its score, and the scores of all tasks now."""
    from limpet.cli.terminal import output

    if invocation.json:
        output.emit(
            version=trained.version,
            created=trained.created,
            row=trained.row,
            monitor=trained.monitor,
            audited=trained.audited,
            promoted=trained.promoted,
            replaced=None if trained.replaced is None else trained.replaced.to_json(),
            majority_baseline=trained.majority_baseline,
            verdicts=trained.verdicts,
            warnings=trained.warnings,
            seconds=round(invocation.seconds, 2),
        )
        return
    version = trained.version
    state = "registered" if trained.created else "the same bytes were registered before as"
    score = output.digits(version.metrics.get("score"))
    if scores := version.metrics.get("scores"):
        score = (
            f"{score} on all rows, {output.digits(scores['old'])} on old and {output.digits(scores['new'])} on new"
        )
    if trained.majority_baseline is not None:
        score = f"{score}, majority baseline {output.digits(trained.majority_baseline)}"
    click.echo(
        f"{state} {version.reference} ({shown_method(version.method)}, score {score}, {output.short(version.digest)})"
    )
    if trained.promoted:
        click.echo(alias_line(trained.promoted))
    if trained.replaced:
        click.echo(plain(trained.replaced.sentence()))
    if len(trained.row) > 1:
        click.echo()
        _show_row(trained)
    elif trained.monitor == "off":
        invocation.note("the earlier tasks were not evaluated again: limpet evaluate --all does it")
    output.warn(trained.warnings)
    invocation.note(f"took {invocation.seconds:.1f} s")


def _show_row(trained: Trained) -> None:
    from limpet.cli.terminal import output

    if not trained.audited:
        output.table(("task", "score now"), [(task, output.digits(now)) for task, now in trained.row.items()])
        return
    how = dict.fromkeys(trained.audited, "carried forward: audited")
    rows = [(task, output.digits(now), how.get(task, "evaluated")) for task, now in trained.row.items()]
    output.table(("task", "score now", "how"), rows)
