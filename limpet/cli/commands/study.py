"""`limpet study icl`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.invocation.key_values import parse_settings

if TYPE_CHECKING:
    from limpet.forgetting.bench.icl_order_study import IclStudy, PromptScore

__all__ = ["command"]


@click.group("study", cls=Noun)
def command() -> None:
    """Measure what a result depends on; nothing is registered."""


@command.command()
@click.argument("task")
@click.option("--orders", type=int, default=8, metavar="N", help="How many orders of the demonstrations. [8]")
@click.option("--shots", type=int, metavar="N", help="Demonstrations of each label. [2]")
@click.option("--limit", type=int, metavar="N", help="How many evaluation examples, the first of the split. [all]")
@click.option(
    "--seed", type=int, default=0, metavar="S", help="Decides the demonstrations and the random labels. [0]"
)
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting of the method icl; repeatable.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH", help="Also write the JSON here.")
@pass_invocation
def icl(
    invocation: Invocation,
    task: str,
    orders: int,
    *,
    shots: int | None,
    limit: int | None,
    seed: int,
    pairs: tuple[str, ...],
    out: Path | None,
) -> None:
    """Score a task in context over prompt orders, with right labels, with random ones, and with none shown.

    Nothing is trained. Every accuracy has its bootstrap interval over the evaluation examples.
    """
    from limpet.cli.terminal import output
    from limpet.cli.terminal.sanitize import json_text

    settings: dict[str, Any] = dict(parse_settings(pairs))
    if shots is not None:
        settings["shots"] = shots
    with invocation.progress() as progress:
        study = invocation.open().study.icl(
            task, orders=orders, limit=limit, seed=seed, settings=settings, progress=progress
        )
    if out is not None:
        output.write(out, json_text({"schema": 1} | output.to_json(study), indent=2) + "\n")
    if invocation.json:
        output.emit(**output.to_json(study))
        return
    _show(study)


def _show(study: IclStudy) -> None:
    from limpet.cli.terminal import output

    def shown(value: float, interval: tuple[float, float]) -> str:
        return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"

    def one(prompt: PromptScore) -> str:
        return shown(prompt.accuracy, prompt.interval)

    rows: list[tuple[object, ...]] = [("none", one(study.zero_shot), None, None, None, None)]
    for name, orders in (("right", study.gold), ("random", study.random)):
        mean = shown(orders.mean, orders.interval)
        spread, by_chance = f"{orders.spread:.3f}", f"{orders.spread_null:.3f}"
        rows.append((name, mean, one(orders.worst), one(orders.best), spread, by_chance))
    output.table(("labels shown", "mean accuracy", "worst order", "best order", "spread", "by chance"), rows)
    click.echo()
    output.fields_table(
        [
            ("right - random", shown(study.difference, study.difference_interval)),
            ("orders", len(study.gold.prompts)),
            ("examples", study.examples),
            ("demonstrations", f"{study.demonstrations}, {study.tokens} tokens in front of a text"),
            ("seed", study.seed),
            ("seconds", output.digits(study.seconds, 1)),
        ]
    )
