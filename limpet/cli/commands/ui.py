"""`limpet ui`."""

from __future__ import annotations

import signal
from contextlib import suppress

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import LimpetError

__all__ = ["command"]


@click.command("ui", cls=Command)
@click.option("--port", type=int, default=5000, show_default=True, metavar="P", help="A port of 127.0.0.1.")
@click.option("--sync", is_flag=True, help="Look every run and model up, and restore what was deleted.")
@pass_invocation
def command(invocation: Invocation, port: int, sync: bool) -> None:
    """Bring the MLflow dashboard of this home up to date, and serve it on 127.0.0.1 until Ctrl-C."""
    home = invocation.open()
    from limpet.cli.terminal import output
    from limpet.forgetting.mlflow_mirror.dashboard import serve

    with invocation.progress() as progress:
        progress.note("mirroring to MLflow")
        try:
            home.sync(again=sync)
        except LimpetError as error:
            # what was sent before can still be looked at
            output.warn(() if invocation.json else (error.message,))
        progress.note("starting the dashboard")
    for number in (signal.SIGTERM, signal.SIGHUP):
        # by default these would end limpet at once, and leave the server behind
        signal.signal(number, signal.default_int_handler)
    with serve(home.store, port) as dashboard:
        if invocation.json:
            output.emit(url=dashboard.url)
        else:
            click.echo(dashboard.url)
            click.echo("Ctrl-C ends it", err=True)
        # this is how it is meant to end, so it is no error
        with suppress(KeyboardInterrupt):
            dashboard.wait()
