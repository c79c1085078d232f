"""Moves of an alias, judged before: what takes a version's place is held against it by the rules of the home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from limpet.errors import UsageError
from limpet.forgetting.gate.parse import read_rules
from limpet.home.gate import Judgement, judge_move, refusal, standing
from limpet.home.results import Move
from limpet.names import check_alias
from limpet.registry import versions
from limpet.registry.records import gate_refusals
from limpet.registry.records.alarms import check_no_alarm
from limpet.registry.system.text_checks import check_reason
from limpet.registry.versions import aliases
from limpet.training.progress import SILENT

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.registry.values import AliasEvent, VersionRecord
    from limpet.training.progress import Progress

__all__ = ["Terms", "promote", "rollback"]


@dataclass(frozen=True)
class Terms:
    """On which terms an alias moves: where it must stand, why, and whether a crossed rule is accepted."""

    expect: str | None = None
    reason: str = ""
    accept: bool = False


def promote(home: Home, reference: str, alias: str, *, terms: Terms, progress: Progress | None) -> Move:
    """Move an alias to a version; see `limpet.home.nouns.adapter.Adapters.promote`."""
    check_alias(alias)
    version = versions.resolve(home.store, reference)
    again = f"limpet adapter promote {version.reference} {alias}"

    def move(judged: aliases.Judged) -> AliasEvent:
        return aliases.promote(
            home.store, version.reference, alias, expect=terms.expect, reason=terms.reason, judged=judged
        )

    return _move(home, version, alias, terms=terms, again=again, move=move, progress=progress or SILENT)


def rollback(home: Home, task: str, alias: str, *, terms: Terms, progress: Progress | None) -> Move:
    """Move an alias back to the version before; see `limpet.home.nouns.adapter.Adapters.rollback`."""
    check_alias(alias)
    again = f"limpet adapter rollback {task} {alias}"

    def move(judged: aliases.Judged) -> AliasEvent:
        return aliases.rollback(home.store, task, alias, expect=terms.expect, reason=terms.reason, judged=judged)

    stands = standing(home, task, alias)
    if not _as_expected(terms.expect, task, stands):
        # where it stands is said before anything else
        return Move(**vars(move(aliases.Judged(stands))))
    version = versions.resolve(home.store, aliases.rollback_to(home.store, task, alias))
    return _move(home, version, alias, terms=terms, again=again, move=move, progress=progress or SILENT)


def _move(
    home: Home,
    version: VersionRecord,
    alias: str,
    *,
    terms: Terms,
    again: str,
    move: Callable[[aliases.Judged], AliasEvent],
    progress: Progress,
) -> Move:
    check_reason(terms.reason)
    if terms.accept and not terms.reason.strip():
        raise UsageError(
            "A loss is accepted only with a reason, which the log keeps.", f"{again} --accept --reason TEXT"
        )
    check_no_alarm(home.store, [version.reference])
    judgement = _judge(home, version, alias, terms=terms, progress=progress)
    refused = bool(judgement.crossings)
    if refused and not terms.accept:
        what = f"{version.reference} may not take the place of what answers under {alias}"
        raise refusal(what, judgement, f"limpet report home; to go on on purpose: {again} --accept --reason TEXT")
    replaced = judgement.outcome(True)
    old = replaced.old if replaced else None
    event = move(aliases.Judged(judgement.stands, old, _accepted(home, version, judgement) if terms.accept else None))
    if replaced is not None and terms.accept:
        replaced = replace(replaced, accepted=event.reason)
    return Move(**vars(event), replaced=replaced, warnings=judgement.notes)


def _accepted(home: Home, version: VersionRecord, judgement: Judgement) -> tuple[str, ...]:
    """The rules that are crossed now, and those that the version crossed when it was added."""
    refused = gate_refusals.for_version(home.store, version.reference)
    return tuple(dict.fromkeys([*(found.rule for found in judgement.crossings), *(kept.rule for kept in refused)]))


def _judge(home: Home, version: VersionRecord, alias: str, *, terms: Terms, progress: Progress) -> Judgement:
    """Judge a move; not one that is refused anyway: the alias stands elsewhere than expected, or need not move."""
    stands = standing(home, version.task, alias)
    if stands == version.number or not _as_expected(terms.expect, version.task, stands):
        return Judgement((), stands=stands)
    return judge_move(home, version, read_rules(home.path), alias=alias, progress=progress)


def _as_expected(expect: str | None, task: str, stands: int | None) -> bool:
    return expect is None or expect == ("none" if stands is None else f"{task}@{stands}")
