"""A benchmark of methods as one HTML file that needs nothing beside it."""

from __future__ import annotations

from limpet.forgetting.bench import tables as bench_tables
from limpet.forgetting.bench.plot import score_cost
from limpet.forgetting.bench.values import Bench
from limpet.forgetting.render.html_page import Plot, data_uri, page
from limpet.forgetting.render.provenance_tables import environment_table

__all__ = ["render_bench_html"]


def render_bench_html(bench: Bench) -> str:
    """Return the benchmark as one self-contained HTML document; all text of users is escaped."""
    tables = (
        bench_tables.bench_table(bench),
        bench_tables.against_full_table(bench),
        bench_tables.failure_table(bench),
        environment_table(bench.environments),
    )
    words = f"Score of each method on {bench.task} against its trained weights and its training time."
    return page(
        "bench.html.j2",
        bench=bench,
        plot=Plot(data_uri(score_cost(bench)), words) if any(row.runs for row in bench.rows) else None,
        tables=[table for table in tables if table.rows],
        definitions=bench_tables.definition_table(),
    )
