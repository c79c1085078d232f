"""`limpet adapter register|list|show`, and the group that all verbs of `limpet adapter` belong to."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import click

from limpet.cli.commands._trained import mirroring_after, show_trained, showing_refused
from limpet.cli.commands.adapter.aliases import history, promote, rollback, unpromote
from limpet.cli.commands.adapter.diff import diff
from limpet.cli.commands.adapter.errors import show_errors
from limpet.cli.commands.adapter.exchange import export, import_
from limpet.cli.commands.adapter.life import delete, note, tag
from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.terminal.cost import cost_lines
from limpet.cli.terminal.sanitize import plain
from limpet.errors import UsageError
from limpet.names import recorded_method, shown_method
from limpet.registry.settings import check_monitor_mode

if TYPE_CHECKING:
    from limpet.registry.formats.json_values import JsonObject
    from limpet.registry.values import TaskRecord, VersionRecord
    from limpet.registry.versions.lineage import Lineage

__all__ = ["command"]

_MOST_SHOWN = 10


@click.group("adapter", cls=Noun)
def command() -> None:
    """The versions of tasks, and the aliases that point at them."""


@command.command()
@click.argument("task")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--labels", metavar="A,B,C", help="The labels of its head's rows in their order. [the task's]")
@click.option(
    "--initial",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The adapter before training, where its beginning changed the base (PiSSA, OLoRA, CorDA).",
)
@click.option(
    "--from-model",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Make a LoRA of a whole fine-tuned copy of the base.",
)
@click.option(
    "--rank",
    type=float,
    metavar="R",
    help="Its rank, such as 16; or below 1 the share of each layer's change to keep, such as 0.95.",
)
@click.option(
    "--monitor",
    metavar="MODE",
    help="The earlier tasks: evaluate them (full), audit them, or off. [the home's, full]",
)
@pass_invocation
def register(
    invocation: Invocation,
    task: str,
    folder: Path | None,
    *,
    labels: str | None,
    initial: Path | None,
    from_model: Path | None,
    rank: float | None,
    monitor: str | None,
) -> None:
    """Register an adapter that was trained elsewhere, in peft's format."""
    mode = None if monitor is None else check_monitor_mode(monitor)
    home = invocation.open()
    order = None if labels is None else next(csv.reader([labels]), [])
    with mirroring_after(home), showing_refused(invocation), invocation.progress() as progress:
        trained = home.adapter.register(
            task,
            folder,
            labels=order,
            initial=initial,
            from_model=from_model,
            rank=rank,
            monitor=mode,
            mirror=False,
            progress=progress,
        )
        progress.finish()
        show_trained(invocation, trained)


@command.command("list")
@click.option("--task", metavar="TASK", help="Only versions of this task.")
@click.option("--method", metavar="M", help="Only versions of this method.")
@click.option("--alias", metavar="ALIAS", help="Only versions that this alias points at.")
@click.option("--where", metavar="CONDITION", help="Such as 'score >= 0.9 and tag.owner = ada'.")
@click.option(
    "--sort", metavar="FIELD", help="Such as score, or -score for the largest first; newest first if not given."
)
@click.option("--deleted", is_flag=True, help="Deleted versions too.")
@click.option("--limit", type=int, default=50, show_default=True, metavar="N", help="Versions on a page.")
@click.option("--cursor", metavar="CURSOR", help="Go on where the page before ended.")
@pass_invocation
def list_(
    invocation: Invocation,
    task: str | None,
    method: str | None,
    *,
    alias: str | None,
    where: str | None,
    sort: str | None,
    deleted: bool,
    limit: int,
    cursor: str | None,
) -> None:
    """List versions, newest first."""
    from limpet.cli.terminal import output

    page = invocation.open().adapter.list(
        task,
        method and recorded_method(method),
        alias,
        where=where,
        sort=sort,
        deleted=deleted,
        limit=limit,
        cursor=cursor,
    )
    if invocation.json:
        output.emit(adapters=page.items, cursor=page.cursor)
        return
    rows = [
        (
            version.reference,
            shown_method(version.method),
            version.role,
            output.digits(version.metrics.get("score")),
            ", ".join(version.aliases),
            output.size(version.size),
            output.short(version.digest),
            version.created_at[:19].replace("T", " "),
            *([version.deleted.reason if version.deleted else None] if deleted else []),
        )
        for version in page.items
    ]
    columns = ("version", "method", "role", "score", "aliases", "size", "digest", "created (UTC)")
    output.table((*columns, "deleted because") if deleted else columns, rows)
    if page.cursor:
        click.echo(f"more: --cursor {page.cursor}", err=True)


@command.command()
@click.argument("version")
@click.option("--errors", is_flag=True, help="What it gets wrong instead: label by label, and example by example.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="So many wrong examples. [10]")
@pass_invocation
def show(invocation: Invocation, version: str, *, errors: bool, limit: int | None) -> None:
    """Show one version in full.

    VERSION is TASK@3, TASK@ALIAS, TASK@latest, or TASK for the current one.
    """
    from limpet.cli.terminal import output

    adapter = invocation.open().adapter
    if errors:
        show_errors(invocation, adapter, version, most=limit or _MOST_SHOWN)
        return
    if limit is not None:
        raise UsageError("--limit counts wrong examples.", f"limpet adapter show {version} --errors --limit {limit}")
    record, task = adapter.show(version), adapter.learned_on(version)
    # by its number from here on: an alias may move meanwhile
    ref = record.reference
    lineage, tags, notes = adapter.lineage(ref), adapter.tags(ref), adapter.notes(ref)
    cost, served, alarm = adapter.cost(ref), adapter.served(ref), adapter.alarm(ref)
    if invocation.json:
        more = {
            "cost": cost,
            "lineage": record.lineage | vars(lineage),
            "tags": tags,
            "notes": notes,
            "alarm": alarm,
            "served": served,
            "learned_on": _learned_on(task),
        }
        output.emit(**output.to_json(record) | more)
        return
    if alarm:
        click.echo(plain(alarm.sentence()))
    output.fields_table([*_lines(record, cost), *_data(task), *_origin(lineage), ("tags", tags or None)])
    for left in notes:
        when = left.created_at[:19].replace("T", " ")
        click.echo(f"note by {plain(left.actor)}, {when}: {plain(left.text, lines=True)}")
    for line in _served_otherwise(served):
        click.echo(line)
    click.echo()
    output.table(("file", "size", "digest"), [(file.name, file.size, file.digest) for file in record.files])


def _lines(record: VersionRecord, cost: JsonObject) -> list[tuple[str, object]]:
    metrics = {name: value for name, value in record.metrics.items() if name != "history"}
    gone = record.deleted
    return [
        ("version", record.reference),
        *([("deleted", f"{gone.created_at} by {gone.actor}: {gone.reason}")] if gone else []),
        ("digest", record.digest),
        ("aliases", record.aliases or None),
        ("role", record.role),
        ("method", shown_method(record.method)),
        ("config", record.config),
        ("base", record.base_digest),
        ("data", record.data_digest),
        ("labels", record.labels),
        ("seed", record.seed),
        ("parent", record.parent),
        ("lineage", record.lineage or None),
        ("metrics", metrics),
        *cost_lines(cost),
        ("environment", record.environment.content()),
        ("created", record.created_at),
    ]


def _learned_on(task: TaskRecord) -> JsonObject:
    """Return what a version was learned on: the task in its revision, where its data come from, and their counts."""
    definition = task.definition
    return {
        "task": task.name,
        "revision": task.revision,
        "data": definition.data,
        "text_column": definition.text_column,
        "target_column": definition.target_column,
        "splits": {
            split.name: {"examples": split.examples, "label_counts": dict(split.label_counts)}
            for split in task.splits
        },
    }


def _data(task: TaskRecord) -> list[tuple[str, object]]:
    counts = ", ".join(f"{split.examples} {split.name}" for split in task.splits)
    return [
        (
            "learned on",
            f"{task.reference}: {task.definition.data}, {task.definition.text_column} -> "
            f"{task.definition.target_column}",
        ),
        ("examples", f"{counts}: limpet task rows has them"),
    ]


def _served_otherwise(served: JsonObject | None) -> list[str]:
    """Name the examples whose served answer is not the measured one, the first of many."""
    differing = served["differing"] if served else []
    lines = [
        f"example {one['example']} was measured as {plain(str(one['measured']))} and is served as "
        f"{plain(str(one['served']))}"
        for one in differing[:_MOST_SHOWN]
    ]
    left = len(differing) - len(lines)
    return lines + ([f"and {left} more: --json has them all"] if left else [])


def _origin(lineage: Lineage) -> list[tuple[str, object]]:
    from limpet.registry.records.streams import HOME_STREAM

    # a home grows without arms and seeds
    steps = [
        f"addition {step.step} of this home"
        if step.stream == HOME_STREAM
        else f"step {step.step} of {step.stream}, arm {step.arm}, seed {step.seed}"
        for step in lineage.steps
    ]
    return [("made by", "; ".join(steps) or None), ("mlflow run", lineage.mlflow_run)]


for _verb in (diff, history, promote, rollback, unpromote, delete, tag, note, export, import_):
    command.add_command(_verb)
