"""What the verbs of a home return, beyond the values of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limpet.registry.formats.html_table import html_table
from limpet.registry.settings import MonitorMode
from limpet.registry.values import AliasEvent

if TYPE_CHECKING:
    from limpet.forgetting.gate.verdicts import Verdict
    from limpet.forgetting.monitor.replacement_values import Replacement
    from limpet.registry.values import VersionRecord
    from limpet.training.methods import Method, Setting

__all__ = ["MethodInfo", "MethodSettings", "Move", "Refused", "Trained", "method_info"]


@dataclass(frozen=True)
class Trained:
    """What an addition came to.

    `created` is false where identical bytes were registered before; `row` maps every task that was evaluated to its
    score now; `promoted` is the alias's move; `warnings` are sentences about what could not be done beside it.
    `replaced` is the version beside the one that it took the place of, or would take it of; null where there is none.
    `majority_baseline` is what the same answer to every text scores. `verdicts` are the rules of the gate with what
    was measured; empty where there are none. `monitor` says what was done about the earlier tasks, and `audited`
    names those whose score in `row` was carried forward by an audit.
    """

    version: VersionRecord
    created: bool
    row: Mapping[str, float] = field(default_factory=dict)
    promoted: AliasEvent | None = None
    warnings: tuple[str, ...] = ()
    replaced: Replacement | None = None
    majority_baseline: float | None = None
    verdicts: tuple[Verdict, ...] = ()
    monitor: MonitorMode = "full"
    audited: tuple[str, ...] = ()

    def __repr__(self) -> str:
        scores = ", ".join(f"{task} {score:.4f}" for task, score in self.row.items())
        known = "" if self.created else ", which was registered before"
        return f"<Trained {self.version.reference}{known}: {scores or 'not evaluated'}>"

    def _repr_html_(self) -> str:
        marked = (
            (task, score, "audited" if task in self.audited else "evaluated") for task, score in self.row.items()
        )
        return html_table(f"{self.version.reference}: scores now", ("task", "score", ""), marked)


@dataclass(frozen=True)
class Move(AliasEvent):
    """A move of an alias, with the version beside the one that it took the place of.

    `warnings` are sentences about rules that could not be judged, `verdicts` those that were. `answers` is what the
    task's bare name means after the move, as `task@3`; null where there is none. `moved` is false where the alias
    stood there already.
    """

    replaced: Replacement | None = None
    warnings: tuple[str, ...] = ()
    answers: str | None = None
    moved: bool = True
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Refused:
    """An alias that did not move, because the version crosses a rule of the gate.

    `from_number` is the version under the alias, null where it is not set, and `to_number` the one that was refused.
    `replaced` holds the two beside each other, null where nothing would be replaced.
    """

    task: str
    alias: str
    from_number: int | None
    to_number: int
    replaced: Replacement | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class MethodInfo:
    """A method's line in the capability table.

    `works` is null where no base was added yet; `reason` says why it does not work on the base, and `nearest` which
    method to use there instead. `architectures` are those that it was tried on and works on; `settings` maps what
    `--set` takes to the defaults, null where the base decides.
    """

    name: str
    summary: str
    works: bool | None
    reason: str
    nearest: str | None
    architectures: tuple[str, ...]
    task_types: tuple[str, ...]
    settings: Mapping[str, Any]
    mergeable: bool
    mixed_batches: bool
    servable: bool
    quantised_base: bool
    trains_base_copy: bool
    learning_rate: float


@dataclass(frozen=True)
class MethodSettings:
    """What `--set` takes for a method: names, types, defaults and meanings, in the order of its documentation."""

    name: str
    summary: str
    learning_rate: float
    task_types: tuple[str, ...]
    settings: tuple[Setting, ...]


def method_info(
    method: Method, architectures: tuple[str, ...], reason: str | None, *, nearest: str | None
) -> MethodInfo:
    """Return a method's line; `reason` is null without a base, and empty where the method works on it."""
    from limpet.training.methods import default_settings, works_on_quantised

    can = method.capabilities
    return MethodInfo(
        name=method.name,
        summary=method.summary,
        works=None if reason is None else not reason,
        reason=reason or "",
        nearest=nearest if reason else None,
        architectures=architectures,
        task_types=tuple(sorted(can.task_types)),
        settings=default_settings(method.settings),
        mergeable=can.mergeable,
        mixed_batches=can.mixed_batches,
        servable=can.servable,
        quantised_base=works_on_quantised(method),
        trains_base_copy=can.trains_base_copy,
        learning_rate=method.learning_rate,
    )
