"""`limpet evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError

if TYPE_CHECKING:
    from limpet.registry.values import EvaluationRecord

__all__ = ["command"]

_SHOWN = 5  # answers that differ


@click.command("evaluate", cls=Command)
@click.argument("versions", nargs=-1, metavar="[TASK[@V]]...")
@click.option("--all", "everything", is_flag=True, help="Every task's current version; so is naming none.")
@click.option("--audit", is_flag=True, help="Check a sample against the evaluation on record, where nothing changed.")
@click.option("--drift", type=float, metavar="X", help="The share of changed answers that an audit finds. [0.01]")
@click.option("--confidence", type=float, metavar="X", help="The probability that it finds them. [0.99]")
@click.option("--data", metavar="SPEC", help="Evaluate one version on these data instead.")
@click.option("--task", "other_task", metavar="NAME", help="Evaluate one version on another task's rows instead.")
@click.option("--text", metavar="COL", help="Of --data, the column of the texts. [the task's own]")
@click.option("--label", metavar="COL", help="Of --data, the column of the labels or targets. [the task's own]")
@click.option("--on", "base", metavar="SPEC", help="Compare one version on another form of its base, as SPEC#nf4.")
@click.option("--harness", metavar="FILE", help="Ask one version and the base alone a task file of lm-eval.")
@click.option("--limit", type=int, metavar="N", help="Of --harness, the first N documents. [all]")
@click.option("--accept", is_flag=True, help="Resolve a version's alarm: it is held against what it answers now.")
@click.option("--reason", default="", metavar="TEXT", help="Why it is accepted, for the log.")
@pass_invocation
def command(
    invocation: Invocation,
    /,
    versions: tuple[str, ...],
    everything: bool,
    *,
    audit: bool,
    data: str | None,
    other_task: str | None,
    text: str | None,
    label: str | None,
    base: str | None,
    harness: str | None,
    limit: int | None,
    accept: bool,
    reason: str,
    **precision: float | None,
) -> None:
    """Evaluate versions on their evaluation splits, or one on other data or another form of its base.

    With --harness, one version and the base alone are asked a task of the language-model evaluation harness, from
    local files: general ability while the version is active.

    Exit code 5 where a version does not answer as when it was registered: it has an alarm then, until that is
    accepted with a reason.
    """
    if versions and everything:
        raise UsageError("--all and named versions exclude each other.", "limpet evaluate --all")
    if not audit and any(value is not None for value in precision.values()):
        raise UsageError("--drift and --confidence are about an audit.", "limpet evaluate --audit")
    if accept and (len(versions) != 1 or audit or not reason.strip()):
        hint = "limpet evaluate TASK@V --accept --reason TEXT"
        raise UsageError("An alarm is accepted for one version at a time, in full and with a reason.", hint)
    if reason and not accept:
        raise UsageError("A reason is for what is accepted.", "limpet evaluate TASK@V --accept --reason TEXT")
    if base is not None:
        if len(versions) != 1 or audit or accept or any(one is not None for one in (data, other_task, harness)):
            raise UsageError(
                "One version at a time is compared on another form of its base, on its task's own rows.",
                "limpet evaluate TASK@V --on SPEC",
            )
        _on_other_base(invocation, versions[0], base)
        return
    if limit is not None and harness is None:
        raise UsageError("--limit is about a task file.", "limpet evaluate TASK@V --harness FILE --limit N")
    if harness is not None:
        if len(versions) != 1 or audit or accept or data is not None or other_task is not None:
            raise UsageError(
                "One version at a time is asked a task file of the evaluation harness.",
                "limpet evaluate TASK@V --harness FILE",
            )
        _harness(invocation, versions[0], harness, limit=limit)
        return
    if data is not None or other_task is not None:
        if len(versions) != 1 or audit or accept or (data is not None and other_task is not None):
            raise UsageError(
                "One version at a time is evaluated on other data: those of --data or of --task.",
                "limpet evaluate TASK@V --data SPEC",
            )
        _elsewhere(invocation, versions[0], data=data, task=other_task, columns=(text, label))
        return
    if text is not None or label is not None:
        raise UsageError("--text and --label are columns of --data.", "limpet evaluate TASK@V --data SPEC --text COL")
    from limpet.cli.terminal import output

    home = invocation.open()
    with invocation.progress() as progress:
        if accept:
            records: tuple[EvaluationRecord, ...] = (home.accept(versions[0], reason, progress=progress),)
        else:
            records = home.evaluate(versions, audit=audit, progress=progress, **precision)
    if invocation.json:
        output.emit(evaluations=records, cursor=None)
        return
    rows = [
        (
            record.version,
            record.kind if record.split == "evaluation" else f"{record.kind}, {record.split}",
            record.metric,
            output.digits(record.score),
            record.examples,
            output.digits(record.seconds, 1),
        )
        for record in records
    ]
    output.table(("version", "kind", "metric", "score", "examples", "seconds"), rows)


def _harness(invocation: Invocation, version: str, file: str, *, limit: int | None) -> None:
    from limpet.cli.terminal import output

    home = invocation.open()
    with invocation.progress() as progress:
        found = home.evaluate_harness(version, file, limit=limit, progress=progress)
    if invocation.json:
        output.emit(**output.to_json(found))
        return
    low, high = found.interval or (found.difference, found.difference)
    output.fields_table(
        [
            ("version", found.version),
            ("task", f"{found.task}, of {file}"),
            ("metric", f"{found.metric}, {'lower' if found.less_is_better else 'higher'} is better"),
            ("documents", found.examples),
            ("base alone", output.digits(found.base.score)),
            ("version active", output.digits(found.active.score)),
            ("difference", f"{found.difference:+.4f}"),
            ("95 % interval", f"{low:+.4f} to {high:+.4f}"),
            *((("p-value", f"{found.p_value:.4f}"),) if found.p_value is not None else ()),
        ]
    )


def _elsewhere(
    invocation: Invocation,
    version: str,
    *,
    data: str | None,
    task: str | None,
    columns: tuple[str | None, str | None],
) -> None:
    from limpet.cli.terminal import output

    home = invocation.open()
    with invocation.progress() as progress:
        found = home.evaluate_elsewhere(version, data=data, task=task, columns=columns, progress=progress)
    record = found.evaluation
    if invocation.json:
        output.emit(**output.to_json(found))
        return
    (kind, where), interval = next(iter(found.source.items())), found.interval
    output.fields_table(
        [
            ("version", record.version),
            (kind, where),
            ("score", f"{record.metric} {output.digits(record.score)} on {record.examples} examples"),
            *((("95 % interval", f"{interval[0]:.4f} to {interval[1]:.4f}"),) if interval else ()),
            *((("trained on", f"{found.trained_on} of these texts"),) if found.trained_on else ()),
            *((("unknown", f"{found.unknown} rows have a label that it does not know"),) if found.unknown else ()),
            *(("note", note) for note in found.notes),
        ]
    )


def _on_other_base(invocation: Invocation, version: str, spec: str) -> None:
    from limpet.cli.terminal import output

    home = invocation.open()
    with invocation.progress() as progress:
        found = home.compare_bases(version, spec, progress=progress)
    if invocation.json:
        output.emit(**output.to_json(found))
        return
    sides = (("on its own base", found.own), ("on the other form", found.other))
    between = found.difference_interval
    output.fields_table(
        [
            ("version", found.version),
            *(
                (name, f"{found.metric} {output.digits(side.score)}{_within(side.interval)}: {side.base}")
                for name, side in sides
            ),
            ("difference", f"{found.difference:+.4f}{_within(between)}, on the same {found.examples} examples"),
            *((("answers", f"{found.differing} of {found.examples} differ"),) if found.differing is not None else ()),
        ]
    )
    if found.answers:
        click.echo()
        rows = [(f"{answer.split} {answer.row}", answer.own, answer.other) for answer in found.answers[:_SHOWN]]
        output.table(("example", *(name for name, _ in sides)), rows)


def _within(interval: tuple[float, float] | None) -> str:
    return f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
