"""The plots of a report, as matplotlib figures: drawn for the HTML file and for the MLflow mirror.

Colours are told apart by colour-blind readers too: viridis for scores, Okabe & Ito's palette with markers
and dashes for lines. Figures are made without pyplot, so that nothing global is touched and threads may
draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.forgetting.conclusion import arm_names, mean_of, mean_with_interval, runs_of
from limpet.forgetting.report_values import ArmReport, Interval, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "MARKERS",
    "accuracy_cost",
    "curves",
    "errors",
    "forgetting_bars",
    "heatmap",
    "new_figure",
]

# Okabe & Ito 2008, the yellow left out: it vanishes on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX*<>"
_DASHES = ("-", "--", "-.", ":")
_MOST_NUMBERS = 12  # tasks up to which the numbers fit into the cells of a heat map
_MOST_NAMES = 20


def heatmap(arm: ArmReport) -> Figure:
    """Return the score matrix of an arm as a heat map; cells that were not evaluated are hatched."""
    import numpy as np
    from matplotlib.patches import Rectangle

    size = len(arm.tasks)
    side = min(10.0, 2.4 + 0.62 * max(size, 2))
    figure = new_figure(side + 0.9, side)
    axes = figure.subplots()
    scores = np.array([[np.nan if cell is None else cell for cell in row[:size]] for row in arm.matrix], dtype=float)
    low, high = _range(float(np.nanmin(scores)), float(np.nanmax(scores)))
    image = axes.imshow(np.ma.masked_invalid(scores), cmap="viridis", vmin=low, vmax=high)
    for step, column in np.argwhere(np.isnan(scores)):
        cell = Rectangle((column - 0.5, step - 0.5), 1, 1, fill=False, hatch="///", edgecolor="#cccccc", linewidth=0)
        axes.add_patch(cell)
    if size <= _MOST_NUMBERS:
        for step, column in np.argwhere(~np.isnan(scores)):
            value = scores[step, column]
            # the upper third of viridis is too bright for white
            colour = "black" if (value - low) / (high - low) > 0.6 else "white"
            axes.text(column, step, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=9)
    _task_ticks(axes, arm)
    axes.set_xlabel("score on")
    axes.set_ylabel("after learning")
    axes.set_title(arm.label, fontsize=11)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def curves(arm: ArmReport) -> Figure:
    """Return the score of each task over the steps, from the step that learned it."""
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    for index, task in enumerate(arm.tasks):
        points = [
            (step + 1, score)
            for step, row in enumerate(arm.matrix)
            if step >= index and (score := row[index]) is not None
        ]
        axes.plot(
            [step for step, _ in points],
            [score for _, score in points],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle=_DASHES[index // len(COLOURS) % len(_DASHES)],
            label=task,
        )
    steps = range(1, len(arm.tasks) + 1)
    axes.set_xticks(steps if len(steps) <= _MOST_NAMES else steps[:: len(steps) // 10])
    scores = [score for row in arm.matrix for score in row if score is not None]
    low, high = _range(min(scores), max(scores))
    axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    axes.set_xlabel("step")
    axes.set_ylabel("score")
    axes.set_title(arm.label, fontsize=11)
    axes.grid(alpha=0.3)
    if 0 < len(arm.tasks) <= _MOST_NAMES:
        figure.legend(loc="outside lower center", ncols=min(3, len(arm.tasks)), fontsize=9, frameon=False)
    return figure


def forgetting_bars(report: Report) -> Figure:
    """Return a bar of `forgetting_max` for each arm with its 95 % interval; left of 0 is backward gain."""
    names = [name for name in arm_names(report) if mean_of(runs_of(report, name), "forgetting_max") is not None]
    figure = new_figure(6.4, 1.4 + 0.5 * max(len(names), 1))
    axes = figure.subplots()
    for position, name in enumerate(names):
        value, interval = mean_with_interval(report, name, "forgetting_max")
        if value is None:
            continue
        axes.barh(
            position,
            value,
            color=COLOURS[arm_names(report).index(name) % len(COLOURS)],
            height=0.6,
            alpha=0.85,
        )
        if interval:
            axes.errorbar(value, position, xerr=errors(value, interval), color="black", capsize=4)
        axes.annotate(
            f"{value:.3f}",
            (max(value, interval[1] if interval else value), position),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_xlabel("forgetting_max (mean loss on earlier tasks; 0 is none)")
    return figure


def accuracy_cost(report: Report) -> Figure:
    """Return average accuracy against training time and against size, a point for each arm and seed."""
    from matplotlib.ticker import EngFormatter

    figure = new_figure(6.8, 3.8)
    by_time, by_size = figure.subplots(1, 2, sharey=True)
    for arm in report.arms:
        seconds = [value for value in arm.cost.train_seconds if value is not None]
        _point(by_time, report, arm, sum(seconds) or None)
        _point(by_size, report, arm, arm.cost.bytes_per_task)
    by_time.set_xlabel("training seconds, all tasks")
    by_time.set_ylabel("average_accuracy")
    by_size.set_xlabel("bytes for each task")
    by_size.xaxis.set_major_formatter(EngFormatter("B"))
    for axes in (by_time, by_size):
        axes.margins(x=0.15)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    handles = dict(zip(*reversed(by_time.get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def _point(axes: Axes, report: Report, arm: ArmReport, cost: float | None) -> None:
    accuracy = arm.metrics["average_accuracy"]
    if cost is None or accuracy is None:
        return
    position = arm_names(report).index(arm.name)
    axes.errorbar(
        [cost],
        [accuracy],
        yerr=errors(accuracy, arm.intervals.get("average_accuracy")),
        color=COLOURS[position % len(COLOURS)],
        marker=MARKERS[position % len(MARKERS)],
        linestyle="none",
        capsize=4,
        markersize=8,
        label=arm.name,
    )


def errors(value: float, interval: Interval | None) -> list[list[float]] | None:
    """Return the distances down and up from a value to its interval, as matplotlib wants them."""
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]] if interval else None


def _range(lowest: float, highest: float) -> tuple[float, float]:
    """0 to 1 where scores are shares, so that the plots of several arms can be compared; else their own range."""
    if lowest >= 0 and highest <= 1:
        return 0.0, 1.0
    return lowest, max(highest, lowest + 1e-9)


def _task_ticks(axes: Axes, arm: ArmReport) -> None:
    positions = range(len(arm.tasks))
    if len(arm.tasks) <= _MOST_NAMES:
        axes.set_xticks(positions, arm.tasks, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_yticks(positions, arm.tasks)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, made without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
