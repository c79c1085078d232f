from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import pytest
from rich.console import Console

from limpet.forgetting.metrics.forgetting import DEFINITIONS
from limpet.forgetting.render.context_tables import confusion_table, label_table
from limpet.forgetting.render.csv_report import HEADER, render_csv
from limpet.forgetting.render.html_report import render_html
from limpet.forgetting.render.markdown_report import render_markdown
from limpet.forgetting.render.provenance_tables import version_table
from limpet.forgetting.render.result_tables import cost_table, matrix_table, metric_table
from limpet.forgetting.render.sections import Part, sections
from limpet.forgetting.render.tables import number
from limpet.forgetting.render.terminal_report import render_table
from limpet.forgetting.report.arm_values import VersionReport
from limpet.forgetting.report.values import Report

EVIL = "<script>alert('x')</script>|[bold]*`"


def empty(report: Report) -> Report:
    return replace(report, arms=(), comparisons=(), seeds=(), environments=())


def short(report: Report) -> Report:
    """The same stream after one task."""
    arms = [
        replace(
            arm,
            matrix=arm.matrix[:1],
            versions=arm.versions[:1],
            negative_flip_rate=(),
            positive_flip_rate=(),
            mcnemar=(),
            cost=replace(arm.cost, train_seconds=(1.0,), examples_per_second=(None,)),
        )
        for arm in report.arms
    ]
    return replace(report, arms=tuple(arms), comparisons=())


def long(report: Report, count: int = 30) -> Report:
    """An arm of more tasks than any form shows in full."""
    arm = report.arms[0]
    rows = tuple(tuple(0.9 if j <= i else None for j in range(count)) for i in range(count))
    made = tuple(VersionReport(f"task-{n}@1", "sha256:" + "0" * 64, "lora", 10, "2026") for n in range(count))
    cost = replace(arm.cost, train_seconds=(1.0,) * count, examples_per_second=(1.0,) * count)
    tasks = tuple(replace(report.tasks[0], name=f"task-{n}") for n in range(count))
    return replace(report, tasks=tasks, arms=(replace(arm, matrix=rows, versions=made, cost=cost),), comparisons=())


def printed(report: Report, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(render_table(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# -- sections


def test_pages_and_markdown_have_the_same_sections_in_the_same_order(grown: Report, html: str) -> None:
    titles = [section.table.title for section in sections(grown)]
    assert len(titles) > 8
    pages = re.findall(r'<h2 id="[^"]*">([^<]*)</h2>', html)
    assert [title for title in pages if title in titles] == titles
    headings = re.findall(r"^## (.*)$", render_markdown(grown), re.M)
    assert [heading.replace("\\", "") for heading in headings if heading.replace("\\", "") in titles] == titles


def test_a_terminal_shows_what_was_measured_and_not_where_it_came_from(grown: Report) -> None:
    lines = [line.strip() for line in printed(grown, 200).splitlines()]
    shown = {section.table.title for section in sections(grown) if section.table.title in lines}
    assert shown == {section.table.title for section in sections(grown) if section.part is Part.RESULT}


def test_versions_are_shown_label_by_label_with_what_they_confuse(grown: Report, html: str) -> None:
    [*_, last] = [labels for labels in grown.labels if labels.arm == "isolated"]
    assert last.errors.version == "election-tweets@1"
    scores = {score.label: score for score in last.errors.labels}
    rows = [row for row in label_table(grown).rows if row[0] == "isolated, election-tweets@1"]
    assert [row[1] for row in rows] == list(scores)
    assert [row[4] for row in rows] == [number(score.precision) for score in scores.values()]
    confused = sum(int(row[3]) for row in confusion_table(grown).rows if row[0] == "isolated, election-tweets@1")
    content = next(one for one in grown.to_json()["labels"] if one["version"] == "election-tweets@1")
    assert confused == content["wrong"] == len(last.errors.wrong)
    assert "which label is taken for which" in html


# -- numbers


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (None, "-"), (-0.0, "0.000"), (-0.0001, "0.000"), (-0.25, "-0.250")]
)
def test_numbers_have_three_digits_and_no_negative_zero(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_matrix_marks_what_is_not_as_it_was_learned(grown: Report) -> None:
    rows = matrix_table(grown.arms[1]).rows
    assert rows[3] == ("4 election-tweets", "0.450↓", "0.750↓", "0.550↓", "0.900")
    assert rows[0] == ("1 bbc-news", "0.950", "-", "-", "-")


def test_a_score_before_learning_is_not_marked_as_lost(grown: Report) -> None:
    arm = replace(grown.arms[0], matrix=((0.9, 0.2), (0.9, 0.8)), versions=grown.arms[0].versions[:2])
    assert matrix_table(arm).rows[0][1:] == ("0.900", "0.200")


def test_a_matrix_of_many_tasks_becomes_a_list_of_them(grown: Report) -> None:
    table = matrix_table(long(grown).arms[0])
    assert table.columns == ("task", "when learned", "now")
    assert table.rows[29] == ("30 task-29", "0.900", "0.900")


def test_learning_accuracy_stands_right_below_average_accuracy(grown: Report) -> None:
    keys = [row[0] for row in metric_table(grown).rows]
    assert keys[:2] == ["average_accuracy", "learning_accuracy"]
    assert metric_table(grown).rows[0][1] == "0.875 [0.800,0.938]"


def test_unknown_costs_are_not_shown_as_0(grown: Report) -> None:
    cost = replace(grown.arms[0].cost, trainable_parameters=None, trainable_share=None, peak_memory_bytes=0)
    changed = replace(grown, arms=(replace(grown.arms[0], cost=cost),))
    (row,) = cost_table(changed).rows
    assert (row[2], row[3], row[7]) == ("-", "-", "-")


# -- the terminal


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(grown: Report, width: int) -> None:
    assert all(len(line) <= width for line in printed(grown, width).splitlines())


def test_80_columns_lose_no_number_and_break_no_name(grown: Report) -> None:
    text = printed(grown, 80)
    for part in ("average_anytime_accuracy", "sequential-shared", "[-0.550,-0.317]", "337,920", "1 GB", "0.0001"):
        assert part in text


def test_matrices_stand_side_by_side_where_there_is_room(grown: Report) -> None:
    def titles(width: int) -> list[str]:
        return [line for line in printed(grown, width).splitlines() if "isolated, seed 0" in line]

    assert "sequential-shared, seed 0" in titles(180)[0]
    assert "sequential-full, seed 0" not in titles(80)[0]


@pytest.mark.parametrize("change", [empty, short, pytest.param(partial(long, count=21), id="long")])
def test_every_form_can_show_every_state(grown: Report, change: object) -> None:
    assert callable(change)
    changed = change(grown)
    assert changed.stream in printed(changed, 80)
    assert render_markdown(changed).startswith("# four-topics\n")
    assert render_csv(changed).startswith("stream,")
    assert "</html>" in render_html(changed)


# -- csv


def test_the_csv_has_one_line_for_each_number(grown: Report) -> None:
    lines = list(csv.DictReader(io.StringIO(render_csv(grown))))
    assert tuple(lines[0]) == HEADER
    cells = [line for line in lines if line["kind"] == "score" and line["arm"] == "sequential-full"]
    assert len(cells) == 16
    assert {(line["step"], line["task"]): line["value"] for line in cells}[("4", "bbc-news")] == "0.45"
    assert sum(line["value"] == "" for line in cells) == 6
    found = {(line["arm"], line["kind"], line["key"]): line["value"] for line in lines}
    assert found[("isolated", "metric", "identical_predictions")] == "true"
    assert float(found[("isolated - sequential-full", "difference", "average_accuracy")]) == pytest.approx(0.2125)


def test_the_csv_has_sweeps_and_means_over_seeds(grown: Report) -> None:
    lines = list(csv.DictReader(io.StringIO(render_csv(grown))))
    found = {(line["arm"], line["seed"], line["kind"], line["key"]): line["value"] for line in lines}
    for arm in grown.arms:
        for candidate in arm.sweep:
            key = (arm.name, str(arm.seed))
            tried = ", ".join(f"{name}={value:g}" for name, value in candidate["settings"].items())
            assert float(found[(*key, "sweep", tried)]) == candidate["mean"]
            chosen = candidate["settings"] == arm.chosen
            assert found[(*key, "sweep_chosen", tried)] == str(chosen).lower()
    assert any(arm.sweep for arm in grown.arms)
    for summary in grown.seeds:
        assert float(found[(summary.arm, "", "mean", summary.metric)]) == summary.mean
        low = found[(summary.arm, "", "mean_low", summary.metric)]
        assert low == ("" if summary.interval is None else str(summary.interval[0]))
    assert grown.seeds


# -- markdown


def test_markdown_tables_have_as_many_cells_in_every_line(grown: Report) -> None:
    tables = re.findall(r"(?:^\|.*\n?)+", render_markdown(grown), flags=re.MULTILINE)
    assert len(tables) >= 9
    for table in tables:
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_markdown_escapes_text_of_users(grown: Report) -> None:
    text = render_markdown(replace(grown, stream=EVIL))
    assert "<script>" not in text.replace("\\<", "")
    assert "[bold]" not in text


# -- html


class Page(HTMLParser):
    """Collects tags and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.words = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.words += any(name == "alt" and value for name, value in attrs)


@pytest.fixture(scope="module")
def html(grown: Report) -> str:
    return render_html(grown)


def test_the_page_needs_nothing_beside_it(html: str) -> None:
    page = Page()
    page.feed(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.references and all(reference.startswith(("data:image/", "#")) for reference in page.references)
    assert "http" not in re.sub(r"data:image/[^\"]*", "", html)
    assert "@import" not in html


def test_every_picture_has_words(html: str) -> None:
    page = Page()
    page.feed(html)
    # curves for each of four tasks, forgetting, and accuracy against cost
    assert page.tags.count("img") == page.words == 6


def test_each_arm_has_a_heat_map_whose_empty_cells_are_hatched_and_have_no_number(html: str) -> None:
    maps = re.findall(r'<figure class="wide heat">.*?</figure>', html, flags=re.DOTALL)
    assert len(maps) == 3
    for one in maps:
        assert one.count('<td style="background:#') == 10
        assert one.count('<td class="none" title="not evaluated">-</td>') == 6


def test_the_page_begins_with_who_forgot_what_when_and_at_what_cost(html: str) -> None:
    top = html[: html.index('id="overview"')]
    for part in ("sequential-full", "0.300 [", "at step", "training seconds", "bytes per task"):
        assert part in top


def test_the_page_says_everything(grown: Report, html: str) -> None:
    parts = [row[0] for row in version_table(grown).rows]
    parts += [version.digest for arm in grown.arms for version in arm.versions]
    parts += [*DEFINITIONS, grown.base.digest, "lr=3e-05", "chosen", "0.21.2", "limpet stream run four-topics.yaml"]
    for part in parts:
        assert part in html, part


def test_the_page_is_the_same_bytes_each_time(grown: Report, html: str) -> None:
    assert render_html(grown) == html


def test_the_page_fits_a_phone_and_paper(html: str) -> None:
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "@media print" in html


def test_text_of_users_is_escaped(grown: Report) -> None:
    arms = tuple(replace(arm, name=EVIL) for arm in grown.arms)
    text = render_html(replace(grown, stream=EVIL, arms=arms, spec={"name": EVIL}))
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_markup_of_the_terminal_is_printed_as_it_is(grown: Report) -> None:
    assert "[bold]" in printed(replace(grown, stream="[bold]", arms=(replace(grown.arms[0], name="[red]"),)), 120)
