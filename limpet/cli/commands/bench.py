"""`limpet bench methods`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError

if TYPE_CHECKING:
    from limpet.forgetting.bench.values import Bench

__all__ = ["command"]

_FORMS = (".png", ".svg", ".html", ".json")


@click.group("bench", cls=Noun)
def command() -> None:
    """Comparisons on one task: methods against what they cost."""


@command.command()
@click.argument("task")
@click.option("--methods", "names", metavar="A,B,C", help="Which methods. [all but those of peft:NAME]")
@click.option("--seeds", default="0", show_default=True, metavar="S,T", help="Every method learns once under each.")
@click.option(
    "--epochs", type=int, default=3, show_default=True, metavar="E", help="Passes over the training examples."
)
@click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="METHOD:KEY=VALUE",
    help="A setting of one method, or its lr; repeatable.",
)
@click.option("--register", is_flag=True, help="Keep every result as a version with the role baseline.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted benchmark of the task.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PATH",
    help="Also write a plot (.png, .svg), a page (.html) or the numbers (.json); repeatable.",
)
@pass_invocation
def methods(
    invocation: Invocation,
    task: str,
    names: str | None,
    *,
    seeds: str,
    epochs: int,
    pairs: tuple[str, ...],
    register: bool,
    resume: bool,
    out: tuple[Path, ...],
) -> None:
    """Let every method learn one task, and show its score against its cost.

    Nothing is registered unless asked for. A method that fails has its reason in place of numbers.
    """
    for path in out:
        if path.suffix not in _FORMS:
            raise UsageError(f"{path} ends in none of {', '.join(_FORMS)}.", "--out bench.html")
    settings = _settings(pairs)
    invocation.note_renamed(*(names.split(",") if names else ()), *settings)
    with invocation.progress() as progress:
        bench = invocation.open().bench.methods(
            task,
            names.split(",") if names else None,
            seeds=_seeds(seeds),
            epochs=epochs,
            settings=settings,
            register=register,
            resume=resume,
            progress=progress,
        )
    for path in out:
        _write(bench, path)
    _show(invocation, bench, out)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers with commas between, not {text!r}.", "--seeds 0,1,2") from None


def _settings(pairs: tuple[str, ...]) -> dict[str, dict[str, str]]:
    settings: dict[str, dict[str, str]] = {}
    for pair in pairs:
        left, equals, value = pair.partition("=")
        # a method of peft has a colon in its own name
        method, colon, key = left.rpartition(":")
        if not (method and colon and key and equals and value):
            raise UsageError(f"--set takes METHOD:KEY=VALUE, not {pair!r}.", "--set lora:r=8")
        settings.setdefault(method, {})[key] = value
    return settings


def _write(bench: Bench, path: Path) -> None:
    from limpet.cli.terminal import output

    if path.suffix == ".html":
        from limpet.forgetting.bench.html_report import render_bench_html

        output.write(path, render_bench_html(bench))
    elif path.suffix == ".json":
        from limpet.cli.terminal.sanitize import json_text

        output.write(path, json_text(output.to_json(bench.to_json()), indent=2) + "\n")
    else:
        from limpet.forgetting.bench.plot import score_cost
        from limpet.forgetting.render.html_page import save_figure

        output.write(path, save_figure(score_cost(bench), path.suffix.removeprefix(".")))


def _show(invocation: Invocation, bench: Bench, out: tuple[Path, ...]) -> None:
    from limpet.cli.terminal import output

    if invocation.json:
        output.emit(**bench.to_json(), written=list(out))
        return
    from limpet.forgetting.bench import tables
    from limpet.forgetting.render.terminal_report import fitted

    for table in (
        tables.bench_table(bench),
        tables.against_full_table(bench),
        tables.failure_table(bench),
    ):
        if table.rows:
            output.render(fitted(table))
    for path in out:
        click.echo(path)
