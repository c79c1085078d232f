"""A report as one HTML file that needs nothing beside it: no script, no font, no link to anywhere."""

from __future__ import annotations

from collections.abc import Mapping

from limpet.forgetting.render import plots
from limpet.forgetting.render.heat_table import HeatTable, Range, heat_table, ranges, scale
from limpet.forgetting.render.html_page import Plot, data_uri, page
from limpet.forgetting.render.provenance_tables import definition_table
from limpet.forgetting.render.result_tables import before_learning
from limpet.forgetting.render.sections import MATRICES, sections
from limpet.forgetting.render.serving_table import serving_table
from limpet.forgetting.render.summary_table import mean_matrix, summary_table
from limpet.forgetting.report.arm_values import ArmReport
from limpet.forgetting.report.conclusion import arm_names, runs_of, sentences
from limpet.forgetting.report.values import Report
from limpet.registry.records.streams import HOME_STREAM
from limpet.training.task_types import unit_key

__all__ = ["render_html"]


def render_html(report: Report) -> str:
    """Return the report as one self-contained HTML document; all text of users is escaped."""
    learned = [arm for arm in report.arms if arm.matrix]
    several = any(len(runs_of(report, name)) > 1 for name in arm_names(report))
    limits = ranges(_units(report), [arm.matrix for arm in report.arms])
    return page(
        "report.html.j2",
        report=report,
        serving=serving_table(report),
        summary=summary_table(report),
        conclusion=sentences(report),
        overview=_overview(report) if learned else [],
        matrices_title=MATRICES,
        matrices=_mean_matrices(report, limits),
        scale=scale(),
        above=before_learning(learned),
        limits=[(unit, f"{low:g}", f"{high:g}") for unit, (low, high) in limits.items()],
        curves=[_curves(report, index) for index in range(_learned(report))],
        sections=[section.table for section in sections(report)],
        each_seed=[_matrix(report, limits, arm.label, runs=[arm]) for arm in learned] if several else [],
        definitions=definition_table(),
        stream_file=_stream_file(report),
    )


def _units(report: Report) -> list[str]:
    return [unit_key(task.name, task.metric) for task in report.tasks]


def _learned(report: Report) -> int:
    return max((len(arm.tasks) for arm in report.arms), default=0)


def _mean_matrices(report: Report, limits: Mapping[str, Range]) -> list[HeatTable]:
    matrices = []
    for name in arm_names(report):
        runs = runs_of(report, name)
        if runs[0].matrix:
            title = f"{name}, mean of {len(runs)} seeds" if len(runs) > 1 else runs[0].label
            matrices.append(_matrix(report, limits, title, runs=runs))
    return matrices


def _matrix(report: Report, limits: Mapping[str, Range], title: str, *, runs: list[ArmReport]) -> HeatTable:
    columns = [limits[unit] for unit in _units(report)]
    return heat_table(title, runs[0].steps, mean_matrix(runs), limits=columns, audited=runs[0].audited)


def _curves(report: Report, index: int) -> Plot:
    task = report.tasks[index].name
    return Plot(data_uri(plots.curves(report, index)), f"Score on {task} after each step, a line for each arm.")


def _overview(report: Report) -> list[Plot]:
    if any(arm.reason for arm in report.arms):
        # what has no common unit has no mean to draw
        return []
    drawn = [Plot(data_uri(plots.accuracy_cost(report)), "Average accuracy of each arm against its cost.")]
    if any(len(arm.matrix) > 1 for arm in report.arms):
        words = "bwt_gem of each arm, the mean change of earlier tasks, with its 95 % interval."
        drawn.insert(0, Plot(data_uri(plots.forgetting_bars(report)), words))
    return drawn


def _stream_file(report: Report) -> str:
    """The stream file that makes this report again; empty for the home's own growth, which has none."""
    import yaml

    if report.stream == HOME_STREAM:
        return ""
    return str(yaml.safe_dump(report.spec, sort_keys=False, allow_unicode=True))
