"""The notes that a reader of the dashboard sees first: which arm forgets, when, on what; what is served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from limpet.forgetting.render.serving_table import gate_words, score_words
from limpet.forgetting.render.summary_table import Fall, largest_falls
from limpet.forgetting.report.conclusion import arm_names, conclusion, forgot, is_reference, runs_of
from limpet.forgetting.report.values import Report
from limpet.registry.values import VersionRecord
from limpet.registry.versions.serving import TaskInService

__all__ = ["Answering", "Served", "home_note", "stream_note", "who_forgets"]

# MLflow takes 20,000 characters
LONGEST_NOTE = 15_000
# tasks that stand in the line that is never folded away
_IN_FIRST_LINE = 4
_COLUMNS = ("task", "answers now", "score", "last change", "gate", "from")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!])")
_KEYS = ("average_accuracy", "learning_accuracy", "bwt_gem")


def stream_note(report: Report) -> str:
    """Return the Markdown note of a stream's run."""
    lines = [
        f"| arm | {' | '.join(_KEYS)} | largest fall in one step |",
        f"|---|{'---|' * len(_KEYS)}---|",
    ]
    for arm in report.arms:
        values = " | ".join(_shown(arm.metrics.get(key)) for key in _KEYS)
        lines.append(f"| {arm.label} | {values} | {_described(largest_falls(report, [arm]))} |")
    lines += [
        "",
        conclusion(report),
        "",
        "The curves `score/<task>` are on the runs of the arms, with `matrix.png` among their artifacts; "
        "`report.html` is among the artifacts of this run.",
    ]
    return "\n".join(lines)


@dataclass(frozen=True)
class Served:
    """An alias as a reader follows it: to its version, to the run that made that, and to the run's data.

    `version_page` and `run_page` are addresses inside MLflow's interface, where a run's page lists its data; `data`
    says where the task's data came from.
    """

    alias: str
    version: VersionRecord
    version_page: str
    run_page: str
    data: str

    def sentence(self) -> str:
        """Return which version the alias stands for, and where that came from, with links."""
        return f"**{self.version.task}@{self.alias}** is {self.link()}, from {self.origin()}"

    def link(self) -> str:
        """Return the version, as a link to its page."""
        return f"[{self.version.reference}]({self.version_page})"

    def origin(self) -> str:
        """Return the run that made the version, as a link, and its data."""
        return f"[its run]({self.run_page}) on `{self.data}` {self.version.data_digest[:19]}"


@dataclass(frozen=True)
class Answering:
    """A task as a reader of the dashboard sees it first; `served` is null where nothing was learned yet."""

    task: TaskInService
    served: Served | None

    def short(self) -> str:
        """Return which version answers, with a link, and how good it is."""
        if self.served is None:
            return f"{self.task.task}: nothing yet"
        return f"{self.served.link()} {_plain(score_words(self.task))}"

    def row(self) -> str:
        """Return the task's row of a Markdown table under `_COLUMNS`."""
        task, served = self.task, self.served
        cells = (
            task.task,
            f"{served.link()} ({'production' if task.promoted else 'the newest'})" if served else "nothing yet",
            _plain(score_words(task)),
            _plain(task.change.sentence()) if task.change else "-",
            _plain(gate_words(task)),
            served.origin() if served else "-",
        )
        return _table_row(cells)


def who_forgets(report: Report) -> str:
    """Return in one line which arm forgets most, on what and when, and which forget less, or not as far as is shown.

    Who forgot is what the report concludes. A fall is one of the mean score over an arm's seeds, from one step to the
    next; arms that others are measured against are left out. Empty where no arm has begun.
    """
    names = [name for name in arm_names(report) if not is_reference(report, name) and runs_of(report, name)[0].matrix]
    falls = {name: largest_falls(report, runs_of(report, name)) for name in names}
    shown = [name for name in names if forgot(report, name)]
    unchanged = [name for name in names if not falls[name]]
    open_ = [name for name in names if name not in shown and name not in unchanged]
    if not shown:
        return f"no forgetting was shown: {', '.join(names)}" if names else ""
    if any(runs_of(report, name)[0].reason for name in shown):
        said = [f"**{name}** forgets: {_described(falls[name])}" for name in shown]
    else:
        most, *less = sorted(
            shown, key=lambda name: min((fall.after - fall.before for fall in falls[name]), default=0)
        )
        said = [f"**{most}** forgets most: {_described(falls[most])}"]
        said += [f"less: {', '.join(less)}"] if less else []
    said += [f"not shown: {', '.join(open_)}"] if open_ else []
    return "; ".join([*said, *([f"nothing: {', '.join(unchanged)}"] if unchanged else [])])


def home_note(
    name: str, answering: Sequence[Answering], forgetting: Sequence[str], *, others: Sequence[Served]
) -> str:
    """Return the Markdown note of the experiment; MLflow folds away all but its first line.

    What serves stands first, then who forgot what.

    Args:
        name: The home's name.
        answering: Each task with what answers for it; those under `production` stand first.
        forgetting: For each stream, that worked on last first, who forgets in it.
        others: Every alias but those that answer.
    """
    ordered = sorted(answering, key=lambda one: (not one.task.promoted, one.served is None))
    footer = (
        f"Streams of the limpet home `{name}`: a stream is a run, its arms are the runs inside it (unfold "
        "it to see their curves), their steps the runs inside those. A mirror: change things with limpet, not here."
    )
    shown = ", ".join(one.short() for one in ordered[:_IN_FIRST_LINE])
    more = f" and {len(ordered) - _IN_FIRST_LINE} more" if len(ordered) > _IN_FIRST_LINE else ""
    head = " ".join(f"{one}." for one in (*([f"Serving: {shown}{more}"] if shown else []), *forgetting[:1]))
    lists = [f"- {one}" for one in (*forgetting[1:], *(one.sentence() for one in others))]
    room = LONGEST_NOTE - len(head) - len(footer)
    # the table may have two thirds of what there is, and the lists what it leaves
    table = _fitting([one.row() for one in ordered], room * 2 // 3, "`limpet status`")
    if table:
        table = [_table_row(_COLUMNS), f"|{':--|' * len(_COLUMNS)}", *table]
    room -= sum(len(line) + 1 for line in table)
    rest = _fitting(lists, room, "`limpet adapter list` and `limpet stream list`")
    return "\n".join((head, "", *table, "", *rest, "", footer)).strip()


def _fitting(lines: Sequence[str], room: int, where: str) -> list[str]:
    """Return as many lines as there is room for, and how many were left out, with where they are shown."""
    kept: list[str] = []
    # room for the sentence that counts them
    room -= 200
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            return [*kept, "", f"- and {len(lines) - len(kept)} more, which {where} show"]
        kept.append(line)
    return kept


def _table_row(cells: Sequence[str]) -> str:
    # MLflow draws the cells of a table without any room between them
    return f"| {'&nbsp; | '.join(cells)} |"


def _plain(text: str) -> str:
    """Return somebody's words as Markdown that says them and nothing else."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _described(falls: Sequence[Fall]) -> str:
    return "; ".join(fall.sentence() for fall in falls) or "none"
