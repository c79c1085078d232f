from __future__ import annotations

import io
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from limpet.forgetting.render import plots
from limpet.forgetting.report.values import Report

EVERY: list[Callable[[Report], Figure]] = [
    lambda report: plots.heatmap(report.arms[1]),
    lambda report: plots.curves(report, 0),
    plots.forgetting_bars,
    plots.accuracy_cost,
]


ROOT = Path(__file__).parents[3]


def picture(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return buffer.getvalue()


@pytest.mark.parametrize("draw", EVERY)
def test_every_plot_is_drawn_without_pyplot(grown: Report, draw: Callable[[Report], Figure]) -> None:
    pyplot = sys.modules.pop("matplotlib.pyplot", None)
    try:
        assert picture(draw(grown)).startswith(b"\x89PNG")
        assert "matplotlib.pyplot" not in sys.modules
    finally:
        if pyplot:
            sys.modules["matplotlib.pyplot"] = pyplot


def test_a_heat_map_shows_the_matrix_and_leaves_out_what_was_not_evaluated(grown: Report) -> None:
    axes = plots.heatmap(grown.arms[1]).axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    expected = [[np.nan if cell is None else cell for cell in row] for row in grown.arms[1].matrix]
    np.testing.assert_array_equal(shown, np.array(expected, dtype=float))
    assert [text.get_text() for text in axes.texts].count("0.450") == 1
    assert len(axes.texts) == 10 and len(axes.patches) == 6


def test_heat_maps_of_shares_have_one_scale(grown: Report) -> None:
    limits = {plots.heatmap(arm).axes[0].images[0].get_clim() for arm in grown.arms}
    assert limits == {(0.0, 1.0)}


def test_scores_that_are_no_shares_have_their_own_scale(grown: Report) -> None:
    arm = replace(
        grown.arms[0],
        matrix=((-2.0, None, None, None), (-3.0, -1.0, None, None)),
        versions=grown.arms[0].versions[:2],
    )
    assert plots.heatmap(arm).axes[0].images[0].get_clim() == (-3.0, -1.0)


def test_columns_without_a_common_unit_have_their_own_colours_and_no_scale(grown: Report) -> None:
    arm = replace(
        grown.arms[0],
        matrix=((-90_000.0, None, None, None), (-120_000.0, 0.25, None, None), (-105_000.0, 0.75, 0.5, None)),
        versions=grown.arms[0].versions[:3],
        reason="no common unit",
    )
    figure = plots.heatmap(arm)
    (axes,) = figure.axes
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown[:, 0], [1, 0, 0.5])
    np.testing.assert_allclose(shown[1:, 1], [0, 1])
    assert "-105000.000" in [text.get_text() for text in axes.texts]


def test_a_curve_begins_where_its_task_was_learned(grown: Report) -> None:
    lines: list[Any] = [line for line in plots.curves(grown, 1).axes[0].get_lines() if len(line.get_xdata()) > 1]
    assert [list(line.get_xdata()) for line in lines] == [[2, 3, 4]] * 3
    assert list(lines[1].get_ydata()) == [0.9, 0.8, 0.75]
    # told apart without colour
    assert len({line.get_marker() for line in lines}) == 3


def test_a_score_before_learning_is_no_part_of_a_curve(grown: Report) -> None:
    arm = replace(grown.arms[0], matrix=((0.9, 0.2), (0.9, 0.8)), versions=grown.arms[0].versions[:2], intervals={})
    changed = replace(grown, arms=(arm,), tasks=grown.tasks[:2])
    lines: list[Any] = [line for index in (0, 1) for line in plots.curves(changed, index).axes[0].get_lines()]
    assert [list(line.get_xdata()) for line in lines] == [[1, 2], [2]]


def test_each_arm_has_its_bar_of_forgetting(grown: Report) -> None:
    axes = plots.forgetting_bars(grown).axes[0]
    assert [bar.get_width() for bar in axes.patches if hasattr(bar, "get_width")] == pytest.approx(
        [0, -0.3, -13 / 30]
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == [arm.name for arm in grown.arms]


def test_accuracy_stands_against_time_and_size(grown: Report) -> None:
    axes = plots.accuracy_cost(grown).axes
    assert len(axes) == 2
    assert list(axes[0].get_lines()[0].get_xdata()) == [50.0]


@pytest.mark.parametrize("draw", EVERY[2:])
def test_a_stream_without_arms_has_empty_plots(grown: Report, draw: Callable[[Report], Figure]) -> None:
    assert picture(draw(replace(grown, arms=(), comparisons=(), seeds=())))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.42, 0.45, 0.5, 0.7, 1.0])
def test_letters_on_a_score_have_the_contrast_that_wcag_asks_of_text(share: float) -> None:
    colour = plots.viridis(share)
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    luminance = sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    contrast = 1.05 / (luminance + 0.05) if plots.is_dark(share) else (luminance + 0.05) / 0.05
    assert contrast >= 4.5


def test_an_arm_without_training_time_is_in_the_legend_too(grown: Report) -> None:
    untimed = replace(grown.arms[0], name="untimed", cost=replace(grown.arms[0].cost, train_seconds=(None,)))
    figure = plots.accuracy_cost(replace(grown, arms=(*grown.arms, untimed)))
    assert "untimed" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_picture_of_who_forgot_what_has_every_score_as_text_and_the_same_bytes_each_time(
    grown: Report, tmp_path: Path
) -> None:
    draw = runpy.run_path(str(ROOT / "docs" / "who_forgot_what.py"))["draw"]
    files = [tmp_path / "first.svg", tmp_path / "again.svg"]
    for file in files:
        draw(list(grown.arms), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    texts = [element.text for element in ElementTree.parse(files[0]).iter("{http://www.w3.org/2000/svg}text")]
    assert {arm.name for arm in grown.arms} <= set(texts)
    assert {f"{score:.3f}" for arm in grown.arms for row in arm.matrix for score in row if score is not None} <= set(
        texts
    )
