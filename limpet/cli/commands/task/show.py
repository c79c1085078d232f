"""`limpet task show`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from limpet.cli.commands.task.examples import show_examples, show_suspects
from limpet.cli.commands.task.revisions import show_revisions
from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError
from limpet.registry.formats.canonical import digest_bytes

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.registry.formats.json_values import JsonObject
    from limpet.registry.values import TaskDefinition, TaskRecord

__all__ = ["show", "show_task"]

_EXAMPLES, _SUSPECTS = 3, 20
_LEFT_OUT = (
    "examples_read",
    "empty_texts",
    "exact_duplicates",
    "conflicting_labels",
    "near_duplicates",
    "overlong_dropped",
)
"""What was counted of the data, and is said in sentences."""
_ELSEWHERE = ("conflicts", "label_order", "majority_baseline", "max_length_fits", "notes", "revision")
"""What has a line of its own."""
_USUAL = (("near_duplicates_rule", "drop"), ("overlong_rule", "cut"))


@click.command(cls=Command)
@click.argument("name", metavar="NAME[@rN]")
@click.option("--revisions", is_flag=True, help="List every revision, and what each changed.")
@click.option("--examples", is_flag=True, help="A few examples of each label instead.")
@click.option(
    "--suspects", is_flag=True, help="The training examples that are likely to be labelled wrongly instead."
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="So many of each label [3], or so many suspects [20]."
)
@pass_invocation
def show(
    invocation: Invocation, name: str, *, revisions: bool, examples: bool, suspects: bool, limit: int | None
) -> None:
    """Show a task: its definition, splits and labels.

    Suspects are what a probe on the features of the frozen base answers otherwise than the data do, by
    cross-validation; it takes seconds to minutes.
    """
    if revisions + examples + suspects > 1:
        raise UsageError("--revisions, --examples and --suspects show different things.", f"limpet task show {name}")
    home = invocation.open()
    if revisions:
        show_revisions(invocation, home, name)
    elif examples:
        show_examples(invocation, home, name, most=limit or _EXAMPLES)
    elif suspects:
        show_suspects(invocation, home, name, most=limit or _SUSPECTS)
    elif limit is not None:
        raise UsageError(
            "--limit counts examples or suspects.", f"limpet task show {name} --examples --limit {limit}"
        )
    else:
        show_task(invocation, home, home.task.show(name))


def show_task(invocation: Invocation, home: Home, record: TaskRecord) -> None:
    """Print a task in full: what it is, what was left out of its data and why, and its labels in each split."""
    from limpet.cli.terminal import output

    baseline = home.task.majority_baseline(record.reference)
    left_out, label_notes = home.task.left_out(record.reference), home.task.label_notes(record.reference)
    if invocation.json:
        cut = home.task.cut(record.reference)
        more = {"cut": cut, "majority_baseline": baseline, "left_out": left_out, "label_notes": label_notes}
        output.emit(**output.to_json(record), **more)
        return
    definition, checks = record.definition, record.checks
    said = _LEFT_OUT if left_out else ()
    output.fields_table(
        [
            ("task", record.name if record.revision == 1 else record.reference),
            ("type", f"{definition.type}, scored by {definition.metric}"),
            ("majority baseline", output.digits(baseline)),
            ("data", f"{definition.data}, {_columns(definition)}"),
            ("digest", record.data_digest),
            ("labels", record.labels),
            *((("label order", checks["label_order"]),) if "label_order" in checks else ()),
            ("longest text", _longest_text(definition.max_length, checks)),
            *((key.replace("_", " "), _option(key, value)) for key, value in definition.options.items()),
            ("split seed", definition.split_seed),
            *((key.replace("_", " "), value) for key, value in _other_checks(checks) if key not in said),
            *(("rows", sentence) for sentence in left_out),
            *(("note", note) for note in (*checks.get("notes", []), *label_notes)),
            ("created", record.created_at),
        ]
    )
    click.echo()
    rows = [(split.name, split.examples, split.digest) for split in record.splits]
    output.table(("split", "examples", "digest"), rows)
    if record.labels:
        click.echo()
        _show_labels(record)


def _columns(definition: TaskDefinition) -> str:
    """Return the columns of texts and targets; conversations have both in one."""
    columns = dict.fromkeys((definition.text_column, definition.target_column))
    return " -> ".join(columns)


def _option(key: str, value: object) -> object:
    """Return an option of a task; a chat template is a program, and is known by its digest."""
    return digest_bytes(str(value).encode("utf-8", "surrogatepass")) if key == "chat_template" else value


def _other_checks(checks: JsonObject) -> Iterator[tuple[str, object]]:
    """Give what was checked of the data and has no line of its own; what is as usual is not worth a line."""
    for key, value in checks.items():
        if key == "cut":
            # the notes tell what there is to tell of it
            if value is None:
                yield key, "counted at training, as the base is not on this machine yet"
        elif key not in _ELSEWHERE and (key, value) not in _USUAL:
            yield key, value


def _longest_text(max_length: int, checks: JsonObject) -> str:
    fits = checks.get("max_length_fits")
    if not fits or fits["share"] == 1:
        return f"{max_length} tokens"
    return f"{max_length} tokens, which {fits['share']:.0%} of the texts fit in; the longest has {fits['longest']}"


def _show_labels(record: TaskRecord) -> None:
    """Print how many examples each label has in each split; of several labels of one text, each counts."""
    from limpet.cli.terminal import output

    rows = [(label, *(split.label_counts.get(label, 0) for split in record.splits)) for label in record.labels]
    output.table(("label", *(split.name for split in record.splits)), rows)
