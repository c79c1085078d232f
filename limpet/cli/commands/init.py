"""`limpet init`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import NotFoundError
from limpet.redaction import hide_secrets

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.registry.values import BaseRecord

__all__ = ["command"]


@click.command("init", cls=Command)
@click.option(
    "--base", metavar="SPEC", help="The base: sample:NAME, a hub id, a folder, a .gguf file. [sample:minilm]"
)
@click.option("--dtype", metavar="T", help="Hold its weights in float32, bfloat16 or float16. [auto: as stored]")
@click.option("--quantize", metavar="Q", help="Hold its weights in nf4 or int8: a base of its own.")
@click.option("--db", metavar="URL", help="The database. [SQLite in the home]")
@click.option("--blobs", metavar="URL", help="Where files are kept. [a folder in the home]")
@click.option("--mlflow", metavar="URI", help="The tracking server, or off. [SQLite in the home]")
@click.option("--adopt", is_flag=True, help="Make a blob store this home's own that is not empty or is another's.")
@pass_invocation
def command(
    invocation: Invocation,
    base: str | None,
    db: str | None,
    *,
    dtype: str | None,
    quantize: str | None,
    blobs: str | None,
    mlflow: str | None,
    adopt: bool,
) -> None:
    """Make a home, the place where limpet keeps its registry.

    The blob store must be empty, the database empty too, or that of the home whose blob store it is. With --adopt
    alone, a home that there is already makes its blob store its own. What lay there stays, unless it names it.
    """
    invocation.hush()
    from limpet.cli.terminal import output
    from limpet.home import init

    folder = invocation.home or _folder_of_environment()
    with invocation.progress() as progress:
        if base is not None:
            progress.note(f"fetching and fingerprinting {base}")
        home = init(
            folder,
            base=base,
            dtype=dtype,
            quantize=quantize,
            db=db,
            blobs=blobs,
            mlflow=mlflow,
            adopt=adopt,
            progress=progress,
        )
    settings = home.store.settings
    record, size = _base(home)
    if invocation.json:
        urls = {name: getattr(settings, name) for name in ("db", "blobs", "mlflow")}
        shown = {name: None if url is None else hide_secrets(url) for name, url in urls.items()}
        output.emit(home=home.path, base=settings.base, base_digest=record and record.digest, **shown)
        return
    click.echo(f"made the home {home.path}, on the base {settings.base}")
    if record is None:
        fetched = f", {output.size(size)}" if size else ""
        invocation.note(
            f"the base is not on this machine yet: the first training fetches it{fetched}; to have it now: "
            f"limpet base add {settings.base}"
        )
    if not invocation.quiet:
        click.echo("next: limpet task add NAME --data SPEC, such as --data sample:bbc-news", err=True)


def _base(home: Home) -> tuple[BaseRecord | None, int | None]:
    """Return the home's base if it is known, else how many bytes it takes to fetch it, where that is known."""
    from limpet.training.base.locate import download_size

    try:
        return home.base.show(), None
    except NotFoundError:
        return None, download_size(str(home.store.settings.base))


def _folder_of_environment() -> Path | None:
    folder = os.environ.get("LIMPET_HOME")
    return Path(folder).expanduser() if folder else None
