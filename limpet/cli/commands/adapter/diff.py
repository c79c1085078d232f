"""`limpet adapter diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.terminal.sanitize import plain

if TYPE_CHECKING:
    from limpet.registry.versions.diff import VersionDifference

__all__ = ["diff"]


@click.command(cls=Command)
@click.argument("a")
@click.argument("b")
@pass_invocation
def diff(invocation: Invocation, a: str, b: str) -> None:
    """Show what tells two versions apart: fields, tensors, and for LoRA the subspaces.

    A and B are versions of one task or of two, as TASK@3 or TASK@ALIAS.
    """
    from limpet.cli.terminal import output

    found = invocation.open().adapter.diff(a, b)
    if invocation.json:
        output.emit(**output.to_json(found))
    else:
        _show(found)


def _show(found: VersionDifference) -> None:
    from limpet.cli.terminal import output

    if found.fields:
        rows = [(field.name, _text(field.a), _text(field.b)) for field in found.fields]
        output.table(("field", found.a, found.b), rows)
    else:
        click.echo(f"{found.a} and {found.b} have the same fields")
    if found.tensors:
        click.echo()
        output.table(
            ("tensor", "shape", f"norm of {found.a}", f"norm of {found.b}", "norm of difference", "cosine"),
            [
                (
                    tensor.name,
                    "x".join(str(size) for size in tensor.shape),
                    output.digits(tensor.norm_a),
                    output.digits(tensor.norm_b),
                    output.digits(tensor.difference),
                    output.digits(tensor.cosine),
                )
                for tensor in found.tensors
            ],
        )
    if found.overlaps:
        click.echo()
        rows_of_overlaps = [
            (one.module, one.rank_a, one.rank_b, output.digits(one.inputs), output.digits(one.outputs))
            for one in found.overlaps
        ]
        columns = ("module", f"rank of {found.a}", f"rank of {found.b}", "input overlap", "output overlap")
        output.table(columns, rows_of_overlaps)
    for title, names in (
        ("of another shape or dtype", found.reshaped),
        (f"only in {found.a}", found.only_a),
        (f"only in {found.b}", found.only_b),
    ):
        if names:
            click.echo(f"\n{title}: {plain(', '.join(names))}")


def _text(value: object) -> object:
    from limpet.cli.terminal import output

    if isinstance(value, str) and value.startswith("sha256:"):
        return output.short(value)
    return value
