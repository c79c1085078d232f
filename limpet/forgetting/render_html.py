"""A report as one HTML file that needs nothing beside it: no script, no font, no link to anywhere."""

from __future__ import annotations

from limpet.forgetting import ability_tables, plots, report_context, report_tables
from limpet.forgetting.conclusion import sentences
from limpet.forgetting.html_page import Plot, data_uri, page
from limpet.forgetting.report_tables import Table
from limpet.forgetting.report_values import ArmReport, Report
from limpet.registry.streams import HOME_STREAM

__all__ = ["render_html"]


def render_html(report: Report) -> str:
    """Return the report as one self-contained HTML document; all text of users is escaped."""
    learned = [arm for arm in report.arms if arm.matrix]
    return page(
        "report.html.j2",
        report=report,
        conclusion=sentences(report),
        matrices=[(_heatmap(arm), report_tables.matrix_table(arm)) for arm in learned],
        curves=[_curves(arm) for arm in learned],
        overview=_overview(report) if learned else [],
        results=_filled(
            report_tables.metric_table(report),
            report_tables.comparison_table(report),
            ability_tables.ability_table(report),
            ability_tables.adapter_table(report),
            report_tables.flip_table(report),
            report_tables.cost_table(report),
            report_tables.efficiency_table(report),
            report_tables.sweep_table(report),
            report_context.budget_table(report),
            report_context.order_table(report),
            report_context.difference_table(report),
            report_context.published_table(report),
        ),
        provenance=_filled(
            report_tables.task_table(report),
            report_tables.version_table(report),
            report_tables.environment_table(report),
        ),
        definitions=report_tables.definition_table(),
        stream_file=_stream_file(report),
    )


def _filled(*tables: Table) -> list[Table]:
    return [table for table in tables if table.rows]


def _heatmap(arm: ArmReport) -> Plot:
    return Plot(data_uri(plots.heatmap(arm)), f"Heat map of the score matrix of {arm.label}; its numbers follow.")


def _curves(arm: ArmReport) -> Plot:
    return Plot(data_uri(plots.curves(arm)), f"Score of each task after each step of {arm.label}.")


def _overview(report: Report) -> list[Plot]:
    found = [Plot(data_uri(plots.accuracy_cost(report)), "Average accuracy of each arm against its cost.")]
    if any(len(arm.matrix) > 1 for arm in report.arms):
        bars = Plot(data_uri(plots.forgetting_bars(report)), "Forgetting of each arm with its 95 % interval.")
        found.insert(0, bars)
    return found


def _stream_file(report: Report) -> str:
    """The stream file that makes this report again; empty for the home's own growth, which has none."""
    import yaml

    if report.stream == HOME_STREAM:
        return ""
    return str(yaml.safe_dump(report.spec, sort_keys=False, allow_unicode=True))
