"""The plot of a benchmark of methods: score against trained weights, and against training time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.forgetting.bench.values import Bench, MethodRow
from limpet.forgetting.render.plots import draw_point, new_figure
from limpet.names import shown_method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["score_cost"]


def score_cost(bench: Bench) -> Figure:
    """Return the score of each method against its trained weights and against its seconds, both axes logarithmic.

    Bars are 95 % intervals. A method that trains nothing stands at the left edge of the weights.
    """
    figure = new_figure(9.0, 4.6)
    by_weights, by_time = figure.subplots(1, 2, sharey=True)
    for position, row in enumerate(bench.rows):
        if row.runs:
            weights = row.cost["trainable_parameters"]
            _point(by_weights, row, position, cost=None if weights is None else max(1, weights))
            _point(by_time, row, position, cost=row.cost["train_seconds"])
    by_weights.set_xlabel("trained weights")
    by_weights.set_ylabel(bench.metric)
    by_time.set_xlabel("training seconds")
    for axes in (by_weights, by_time):
        _as_logarithm(axes)
        axes.grid(alpha=0.3)
    scores = [row.score for row in bench.rows if row.score is not None]
    if scores and min(scores) >= 0 and max(scores) <= 1:
        low, high = by_weights.get_ylim()
        # the interval of two seeds may go far beyond what a score can be
        by_weights.set_ylim(max(low, -0.03), min(high, 1.03))
    seeds = f"{len(bench.seeds)} seeds" if len(bench.seeds) > 1 else f"seed {bench.seeds[0]}"
    figure.suptitle(f"{bench.task} on {bench.base}, {bench.epochs} epochs, {seeds}", fontsize=11)
    handles, labels = by_weights.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure


def _as_logarithm(axes: Axes) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.margins(x=0.12)
    low, high = axes.get_xlim()
    # within a decade or two, 1, 2 and 5 have their marks; beyond that they would run into each other
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _point(axes: Axes, row: MethodRow, position: int, *, cost: float | None) -> None:
    # no cost at all has no place on a logarithmic axis
    if not cost or row.score is None:
        return
    draw_point(axes, (cost, row.score), row.interval, position=position, name=shown_method(row.method))
