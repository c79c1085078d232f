"""Examples of a task: a few of each label, and those that are likely to be labelled wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.invocation import Invocation
from limpet.cli.terminal.excerpt import excerpt
from limpet.cli.terminal.sanitize import plain

if TYPE_CHECKING:
    from limpet.home import Home

__all__ = ["show_examples", "show_suspects"]


def show_examples(invocation: Invocation, home: Home, name: str, *, most: int) -> None:
    """Print the first training examples of each label."""
    from limpet.cli.terminal import output

    found = home.task.examples(name, most=most)
    if invocation.json:
        listed = [
            {**row.content(), "label": label or None, "target": row.target} for label in found for row in found[label]
        ]
        output.emit(task=name, split="train", examples=listed)
        return
    columns = ("label", "row", "text") if any(found) else ("row", "text", "target")
    rows = [
        (label, row.row, excerpt(row.text)) if label else (row.row, excerpt(row.text), excerpt(str(row.target)))
        for label in found
        for row in found[label]
    ]
    output.table(columns, rows)


def show_suspects(invocation: Invocation, home: Home, name: str, *, most: int) -> None:
    """Print the training examples that a probe answers otherwise, the most doubtful first."""
    from limpet.cli.terminal import output

    with invocation.progress() as progress:
        found = home.task.suspects(name, progress=progress)
    if invocation.json:
        content = output.to_json(found)
        more = {"found": len(found.suspects), "suspects": content["suspects"][:most]}
        output.emit(**content | more)
        return
    share = output.digits(found.agreement)
    click.echo(
        f"A probe on the features of the base answers {share} of the labels of {found.examples} training examples as "
        f"they are labelled, by cross-validation. It would label {len(found.suspects)} examples otherwise."
    )
    if found.not_judged:
        labels = ", ".join(f"{label} ({count})" for label, count in found.not_judged.items())
        click.echo(f"Not judged, because they have too few examples: {plain(labels)}.")
    if not found.suspects:
        return
    click.echo()
    output.table(
        ("row", "label", "of probability", "the probe says", "of probability", "text"),
        [
            (
                suspect.row,
                ", ".join(suspect.labels) or "(none)",
                output.digits(suspect.confidence),
                ", ".join(suspect.probe) or "(none)",
                output.digits(suspect.probe_confidence),
                excerpt(suspect.text),
            )
            for suspect in found.suspects[:most]
        ],
    )
    if len(found.suspects) > most:
        click.echo(f"and {len(found.suspects) - most} more: --limit N shows them")
