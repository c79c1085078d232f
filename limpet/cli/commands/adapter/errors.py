"""What `limpet adapter show --errors` prints: labels one by one, what is taken for what, and wrong answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.invocation import Invocation
from limpet.cli.terminal.excerpt import excerpt

if TYPE_CHECKING:
    from limpet.forgetting.monitor.version_errors import VersionErrors
    from limpet.home.nouns.adapter import Adapters

__all__ = ["show_errors"]

_WIDEST_MATRIX = 12  # labels; beyond that a matrix fits no screen
_CONFUSIONS = 10


def show_errors(invocation: Invocation, adapter: Adapters, version: str, *, most: int) -> None:
    """Print what a version gets wrong on the evaluation examples of its task."""
    from limpet.cli.terminal import output

    errors = adapter.errors(version)
    if invocation.json:
        content = output.to_json(errors)
        shown = {"confusions": output.to_json(errors.confusions), "wrong": content["wrong"][:most]}
        output.emit(**content | {"wrong_examples": len(errors.wrong)} | shown)
        return
    # a number, or a text, that is not the target's may be as good
    how = "wrongly" if errors.labels else "otherwise than by their target"
    click.echo(
        f"{errors.version} answers {len(errors.wrong)} of {errors.examples} evaluation examples of {errors.task} "
        f"{how} ({errors.metric} {errors.score:.4f})"
    )
    _show_labels(errors)
    _show_confusions(errors)
    _show_wrong(errors, most)


def _show_labels(errors: VersionErrors) -> None:
    from limpet.cli.terminal import output

    if not errors.labels:
        return
    click.echo()
    output.table(
        ("label", "examples", "predicted", "precision", "recall", "F1"),
        [
            (
                score.label,
                score.examples,
                score.predicted,
                *map(output.digits, (score.precision, score.recall, score.f1)),
            )
            for score in errors.labels
        ],
    )


def _show_confusions(errors: VersionErrors) -> None:
    from limpet.cli.terminal import output

    if not errors.confusions:
        return
    click.echo()
    if len(errors.matrix_labels) <= _WIDEST_MATRIX:
        rows = [(label, *row) for label, row in zip(errors.matrix_labels, errors.matrix, strict=True)]
        output.table(("right, down; predicted, across", *errors.matrix_labels), rows)
        return
    first = errors.confusions[:_CONFUSIONS]
    output.table(("label", "taken for", "examples"), [(one.target, one.predicted, one.examples) for one in first])
    if len(errors.confusions) > len(first):
        click.echo(f"and {len(errors.confusions) - len(first)} other pairs: --json has the whole matrix")


def _show_wrong(errors: VersionErrors, most: int) -> None:
    from limpet.cli.terminal import output

    if not errors.wrong:
        return
    click.echo()
    # a task that was revised has several splits, each with a row 1
    several = len({answer.split for answer in errors.wrong}) > 1
    rows = [
        (
            *((answer.split,) if several else ()),
            answer.row,
            *(excerpt(_text(value)) for value in (answer.target, answer.predicted)),
            excerpt(answer.text),
        )
        for answer in errors.wrong[:most]
    ]
    output.table((*(("split",) if several else ()), "row", "right", "predicted", "text"), rows)
    if len(errors.wrong) > most:
        click.echo(f"and {len(errors.wrong) - most} more: --limit N shows them")


def _text(value: object) -> str:
    return (", ".join(map(str, value)) or "(none)") if isinstance(value, list) else str(value)
