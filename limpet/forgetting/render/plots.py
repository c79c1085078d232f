"""The plots of a report, as matplotlib figures: drawn for the HTML file and for the MLflow mirror.

Colours are told apart by colour-blind readers too: viridis for scores, Okabe & Ito's palette with markers
and dashes for lines. Figures are made without pyplot, so that nothing global is touched and threads may
draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.conclusion import arm_names, mean_of, mean_with_interval, runs_of
from limpet.forgetting.report.values import Report
from limpet.training.task_types import unit_key

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

__all__ = [
    "COLOURS",
    "accuracy_cost",
    "curves",
    "draw_matrix",
    "draw_point",
    "forgetting_bars",
    "heatmap",
    "is_dark",
    "new_figure",
    "score_range",
    "viridis",
]

# Okabe & Ito 2008, the yellow left out: it vanishes on white; Tol's wine as the eighth
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#882255")
_MARKERS = "osD^vPX*<>"
_DASHES = ("-", "--", "-.", ":")
_MOST_NUMBERS = 12  # tasks up to which the numbers fit into the cells of a heat map
_MOST_NAMES = 20


def heatmap(arm: ArmReport) -> Figure:
    """Return the score matrix of an arm as a heat map; cells that were not evaluated are hatched.

    Where the tasks' scores have no common unit, each column has its own range of colours, and there is no scale.
    """
    side = min(10.0, 2.4 + 0.62 * max(len(arm.tasks), 2))
    figure = new_figure(side + 0.9, side)
    axes = figure.subplots()
    image = draw_matrix(axes, arm)
    axes.set_title(arm.label, fontsize=11)
    if not arm.reason:
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def draw_matrix(axes: Axes, arm: ArmReport) -> AxesImage:
    """Draw the score matrix of an arm, and return the image, whose colours a scale can show."""
    import numpy as np
    from matplotlib.patches import Rectangle

    size = len(arm.tasks)
    scores = np.array([[np.nan if cell is None else cell for cell in row[:size]] for row in arm.matrix], dtype=float)
    shares, (low, high) = scores, score_range(scores[~np.isnan(scores)].tolist())
    if arm.reason:
        shares, low, high = _by_column(scores), 0.0, 1.0
    # a home that learned a task again has more rows than columns
    aspect: Literal["equal", "auto"] = "equal" if len(arm.steps) == size else "auto"
    image = axes.imshow(np.ma.masked_invalid(shares), cmap="viridis", vmin=low, vmax=high, aspect=aspect)
    for step, column in np.argwhere(np.isnan(scores)):
        cell = Rectangle((column - 0.5, step - 0.5), 1, 1, fill=False, hatch="///", edgecolor="#cccccc", linewidth=0)
        axes.add_patch(cell)
    if size <= _MOST_NUMBERS:
        for step, column in np.argwhere(~np.isnan(scores)):
            value = scores[step, column]
            colour = "white" if is_dark((shares[step, column] - low) / (high - low)) else "black"
            axes.text(column, step, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=9)
    _task_ticks(axes, arm)
    axes.set_xlabel("score on")
    axes.set_ylabel("after learning")
    return image


def _by_column(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each score as a share of its column's range."""
    import numpy as np

    lowest, highest = np.nanmin(scores, axis=0), np.nanmax(scores, axis=0)
    shares: NDArray[np.float64] = (scores - lowest) / np.maximum(highest - lowest, 1e-9)
    return shares


def curves(report: Report, index: int) -> Figure:
    """Return the score of one task over the steps, a line for each arm, from the step that learned it.

    With several seeds a line is their mean and the band reaches from the lowest to the highest; with one, the last
    point has its 95 % interval over examples.
    """
    figure = new_figure(5.2, 3.9)
    axes = figure.subplots()
    task = report.tasks[index].name
    for position, name in enumerate(arm_names(report)):
        runs = runs_of(report, name)
        if index >= len(runs[0].tasks):
            continue
        first = runs[0].learned[index]
        columns = [[row[index] for row in arm.matrix[first:]] for arm in runs]
        points = [
            (first + number, [score for score in scores if score is not None])
            for number, scores in enumerate(zip(*columns, strict=True), start=1)
            if None not in scores
        ]
        if not points:
            continue
        steps, scores = [step for step, _ in points], [sum(found) / len(found) for _, found in points]
        colour = COLOURS[position % len(COLOURS)]
        axes.plot(
            steps,
            scores,
            color=colour,
            marker=_MARKERS[position % len(_MARKERS)],
            linestyle=_DASHES[position % len(_DASHES)],
            label=name,
        )
        if len(runs) > 1:
            lowest, highest = [min(found) for _, found in points], [max(found) for _, found in points]
            axes.fill_between(steps, lowest, highest, color=colour, alpha=0.12, linewidth=0)
        elif interval := runs[0].intervals.get(f"score:{task}"):
            axes.errorbar(steps[-1], scores[-1], yerr=_errors(scores[-1], interval), color=colour, capsize=4)
    _step_axis(axes, report, index)
    axes.set_title(f"{index + 1} {task}", fontsize=11)
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", ncols=_legend_columns(report), fontsize=9, frameon=False)
    return figure


def _step_axis(axes: Axes, report: Report, index: int) -> None:
    count = max(len(report.tasks), *(len(arm.matrix) for arm in report.arms))
    steps = range(1, count + 1)
    axes.set_xticks(steps if count <= _MOST_NAMES else steps[:: count // 10])
    # the same steps in every plot, so that their falls can be told apart
    axes.set_xlim(0.7, count + 0.3)
    units = [unit_key(task.name, task.metric) for task in report.tasks]
    measured = [place for place, unit in enumerate(units) if unit == units[index]]
    low, high = score_range(
        [
            score
            for arm in report.arms
            for row in arm.matrix
            for place in measured
            if (score := row[place]) is not None
        ]
    )
    axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    axes.set_xlabel("step")
    axes.set_ylabel(report.tasks[index].metric)
    axes.grid(alpha=0.3)


def _legend_columns(report: Report) -> int:
    # a long name would push its neighbours off the figure
    longest = max(map(len, arm_names(report)), default=0)
    return 3 if longest <= 16 else 2 if longest <= 26 else 1


def forgetting_bars(report: Report) -> Figure:
    """Return a bar of `bwt_gem` for each arm with its 95 % interval; left of 0 is forgetting."""
    names = [name for name in arm_names(report) if mean_of(runs_of(report, name), "bwt_gem") is not None]
    figure = new_figure(6.4, 1.4 + 0.5 * max(len(names), 1))
    axes = figure.subplots()
    for position, name in enumerate(names):
        value, interval = mean_with_interval(report, name, "bwt_gem")
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
            axes.errorbar(value, position, xerr=_errors(value, interval), color="black", capsize=4)
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
    axes.set_xlabel("bwt_gem (mean change of earlier tasks since learned; left of 0 is forgetting)")
    return figure


def accuracy_cost(report: Report) -> Figure:
    """Return average accuracy against training time and against size, a point for each arm and seed."""
    from matplotlib.ticker import EngFormatter

    figure = new_figure(6.8, 3.8)
    by_time, by_size = figure.subplots(1, 2, sharey=True)
    for arm in report.arms:
        seconds = [value for value in arm.cost.train_seconds if value is not None]
        _point(by_time, report, arm, cost=sum(seconds) if seconds else None)
        _point(by_size, report, arm, cost=arm.cost.bytes_per_task)
    by_time.set_xlabel("training seconds, all tasks")
    by_time.set_ylabel("average_accuracy")
    by_size.set_xlabel("bytes for each task")
    by_size.xaxis.set_major_formatter(EngFormatter("B"))
    for axes in (by_time, by_size):
        axes.margins(x=0.15)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    # an arm may be measured in only one of them
    both = [axes.get_legend_handles_labels() for axes in (by_time, by_size)]
    handles = {label: handle for found in both for handle, label in zip(*found, strict=True)}
    if handles:
        figure.legend(
            handles.values(),
            handles,
            loc="outside lower center",
            ncols=_legend_columns(report),
            fontsize=9,
            frameon=False,
        )
    return figure


def _point(axes: Axes, report: Report, arm: ArmReport, *, cost: float | None) -> None:
    accuracy = arm.metrics["average_accuracy"]
    if cost is None or accuracy is None:
        return
    position = arm_names(report).index(arm.name)
    interval = arm.intervals.get("average_accuracy")
    draw_point(axes, (cost, accuracy), interval, position=position, name=arm.name)


def draw_point(
    axes: Axes, point: tuple[float, float], interval: Interval | None, *, position: int, name: str
) -> None:
    """Draw a cost and a score with the score's interval, in the colour and marker of its position in the legend."""
    axes.errorbar(
        [point[0]],
        [point[1]],
        yerr=_errors(point[1], interval),
        color=COLOURS[position % len(COLOURS)],
        marker=_MARKERS[position % len(_MARKERS)],
        linestyle="none",
        capsize=4,
        markersize=8,
        label=name,
    )


def _errors(value: float, interval: Interval | None) -> list[list[float]] | None:
    """Return the distances down and up from a value to its interval, as matplotlib wants them."""
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]] if interval else None


def score_range(scores: Sequence[float]) -> tuple[float, float]:
    """Return 0 to 1 where scores are shares, so that the plots of several arms can be compared; else their range."""
    lowest, highest = min(scores, default=0.0), max(scores, default=1.0)
    if lowest >= 0 and highest <= 1:
        return 0.0, 1.0
    return lowest, max(highest, lowest + 1e-9)


def viridis(share: float) -> str:
    """Return the colour of a share of a range, as HTML writes it."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["viridis"](share))


def is_dark(share: float) -> bool:
    """Whether white letters contrast more than black ones with the colour of a share of a range (WCAG 2.2)."""
    from matplotlib import colormaps

    red, green, blue, _ = colormaps["viridis"](share)
    luminance = 0.2126 * _linear(red) + 0.7152 * _linear(green) + 0.0722 * _linear(blue)
    return bool(1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05)


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _task_ticks(axes: Axes, arm: ArmReport) -> None:
    if len(arm.tasks) <= _MOST_NAMES:
        axes.set_xticks(range(len(arm.tasks)), arm.tasks, rotation=35, ha="right", rotation_mode="anchor")
    if len(arm.steps) <= _MOST_NAMES:
        axes.set_yticks(range(len(arm.steps)), arm.steps)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, made without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
