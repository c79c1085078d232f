"""`limpet adapter diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli._command import Command
from limpet.cli._invocation import Invocation, pass_invocation
from limpet.cli._plain import plain

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
    from limpet.cli import _output

    found = invocation.open().adapter.diff(a, b)
    if invocation.json:
        _output.emit(**_output.to_json(found))
    else:
        _show(found)


def _show(found: VersionDifference) -> None:
    from limpet.cli import _output

    if found.fields:
        rows = [(field.name, _text(field.a), _text(field.b)) for field in found.fields]
        _output.table(("field", found.a, found.b), rows)
    else:
        click.echo(f"{found.a} and {found.b} have the same fields")
    if found.tensors:
        click.echo()
        _output.table(
            ("tensor", "shape", f"norm of {found.a}", f"norm of {found.b}", "norm of difference", "cosine"),
            [
                (
                    tensor.name,
                    "x".join(str(size) for size in tensor.shape),
                    _output.digits(tensor.norm_a),
                    _output.digits(tensor.norm_b),
                    _output.digits(tensor.difference),
                    _output.digits(tensor.cosine),
                )
                for tensor in found.tensors
            ],
        )
    if found.overlaps:
        click.echo()
        rows_of_overlaps = [
            (one.module, one.rank_a, one.rank_b, _output.digits(one.inputs), _output.digits(one.outputs))
            for one in found.overlaps
        ]
        columns = ("module", f"rank of {found.a}", f"rank of {found.b}", "input overlap", "output overlap")
        _output.table(columns, rows_of_overlaps)
    for title, names in (
        ("of another shape or dtype", found.reshaped),
        (f"only in {found.a}", found.only_a),
        (f"only in {found.b}", found.only_b),
    ):
        if names:
            click.echo(f"\n{title}: {plain(', '.join(names))}")


def _text(value: object) -> object:
    from limpet.cli import _output

    if isinstance(value, str) and value.startswith("sha256:"):
        return _output.short(value)
    return value
