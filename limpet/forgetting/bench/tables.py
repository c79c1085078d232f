"""The tables of a benchmark of methods as text cells; the terminal and HTML draw them."""

from __future__ import annotations

from limpet.forgetting.bench.values import Bench, MethodRow
from limpet.forgetting.render.provenance_tables import COST_DEFINITIONS
from limpet.forgetting.render.tables import (
    UNDEFINED,
    Table,
    added,
    count,
    number,
    percent,
    size,
    times,
    with_interval,
)
from limpet.names import shown_method
from limpet.registry.versions.costs import COMPARED

__all__ = ["against_full_table", "bench_table", "definition_table", "failure_table"]


def bench_table(bench: Bench) -> Table:
    """Return the score of every method with its interval, and what it cost."""
    columns = (
        "method",
        bench.metric,
        "trained weights",
        "share",
        "size",
        "of full",
        "seconds",
        "examples per second",
        "memory added",
        "added latency",
        "when merged",
    )
    several = len(bench.seeds) > 1
    what = f"t-interval over {len(bench.seeds)} seeds" if several else "bootstrap over the examples"
    note = (
        f"Score on {bench.eval_examples} evaluation examples; in brackets: 95 % interval, {what}. Of full: share of "
        "a full checkpoint. Added latency: of one example, over the base alone."
    )
    return Table(f"{bench.task} on {bench.base}", columns, tuple(_row(row) for row in bench.rows), note)


def against_full_table(bench: Bench) -> Table:
    """Return what each method's training cost, divided by that of full fine-tuning; empty if that is not there."""
    compared = [(row, bench.against_full(row)) for row in bench.rows if row.runs]
    rows = [
        (shown_method(row.method), *(times(ratios[key]) for key in COMPARED))
        for row, ratios in compared
        if any(value is not None for value in ratios.values())
    ]
    columns = ("method", "seconds", "examples per second", "peak memory", "memory added")
    note = "0.50x is half of what full fine-tuning takes here. Peak memory has the libraries and the base in it."
    return Table("against full fine-tuning", columns, tuple(rows), note)


def failure_table(bench: Bench) -> Table:
    """Return why methods failed."""
    rows = tuple((row.method, row.reason) for row in bench.rows if row.reason)
    return Table("failed", ("method", "because"), rows)


def definition_table() -> Table:
    """Return the definition of every figure."""
    note = (
        f"{UNDEFINED} Times, rates and sizes are means over the seeds, latencies medians; weights and peak memory "
        "are the largest."
    )
    return Table("definitions", ("figure", "definition"), tuple(COST_DEFINITIONS.items()), note)


def _row(row: MethodRow) -> tuple[str, ...]:
    cost = row.cost
    return (
        shown_method(row.method),
        with_interval(row.score, row.interval),
        count(cost["trainable_parameters"]),
        percent(cost["trainable_share"]),
        size(cost["bytes"]),
        percent(cost["bytes_share"]),
        number(cost["train_seconds"], 1),
        number(cost["examples_per_second"], 1),
        size(cost["peak_memory_added_bytes"]),
        added(cost["latency_ratio"]),
        added(cost["merged_latency_ratio"]),
    )
