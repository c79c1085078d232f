"""`limpet base add|show|verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation

if TYPE_CHECKING:
    from limpet.registry.values import BaseRecord

__all__ = ["command"]


@click.group("base", cls=Noun)
def command() -> None:
    """The frozen pretrained model, known by its fingerprint."""


@command.command()
@click.argument("spec")
@click.option("--dtype", metavar="T", help="Hold its weights in float32, bfloat16 or float16. [auto: as stored]")
@click.option("--quantize", metavar="Q", help="Hold its weights in nf4 or int8: a base of its own.")
@pass_invocation
def add(invocation: Invocation, spec: str, *, dtype: str | None, quantize: str | None) -> None:
    """Fetch a base, fingerprint it and keep the fingerprint.

    SPEC is sample:NAME, a hub id with optional @revision, a folder or a .gguf file.
    """
    home = invocation.open()
    with invocation.progress() as progress:
        progress.note(f"fetching and fingerprinting {spec}")
        record = home.base.add(spec, progress, dtype=dtype, quantize=quantize)
    _show(invocation, record)


@command.command()
@click.argument("name", required=False)
@pass_invocation
def show(invocation: Invocation, name: str | None) -> None:
    """Show a base's record; by default the home's."""
    _show(invocation, invocation.open().base.show(name))


@command.command()
@click.argument("name", required=False)
@pass_invocation
def verify(invocation: Invocation, name: str | None) -> None:
    """Read all bytes of a base again and compare; exit code 5 where they differ."""
    from limpet.cli.terminal import output

    record = invocation.open().base.verify(name)
    if invocation.json:
        output.emit(name=record.name, digest=record.digest, unchanged=True)
    else:
        click.echo(f"{record.name} is unchanged: {record.digest}")


def _show(invocation: Invocation, record: BaseRecord) -> None:
    from limpet.cli.terminal import output

    if invocation.json:
        output.emit(**output.to_json(record))
        return
    output.fields_table(
        [
            ("name", record.name),
            ("digest", record.digest),
            ("weights", record.weights_digest),
            ("config", record.config_digest),
            ("tokenizer", record.tokenizer_digest),
            ("architecture", f"{record.architecture} ({record.family}), {record.hidden_size} wide"),
            ("parameters", f"{record.parameters:,}"),
            ("size", output.size(record.size)),
            ("location", record.location),
            ("created", record.created_at),
        ]
    )
