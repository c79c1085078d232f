"""Moves of an alias, judged before: what takes a version's place is held against it by the rules of the home.

An alias that is taken off is not judged: nothing is promoted by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from limpet.errors import UsageError
from limpet.forgetting.gate.parse import read_rules
from limpet.forgetting.monitor.kept_predictions import read_predictions
from limpet.forgetting.monitor.replacement import compare_versions
from limpet.home.judging import Judgement, answering, judge_move, judge_promotion, refusal, standing
from limpet.home.results import Move, Refused
from limpet.names import check_alias
from limpet.registry import versions
from limpet.registry.records import gate_refusals
from limpet.registry.records.alarms import check_no_alarm
from limpet.registry.records.rows import PRODUCTION
from limpet.registry.system.text_checks import check_reason
from limpet.registry.versions import aliases
from limpet.training.progress import SILENT

if TYPE_CHECKING:
    from limpet.home.context import HomeContext
    from limpet.registry.values import AliasEvent, VersionRecord
    from limpet.training.progress import Progress

__all__ = ["MoveTerms", "promote", "rollback", "unpromote"]


@dataclass(frozen=True)
class MoveTerms:
    """On which terms an alias moves: where it must stand, why, and whether a crossed rule is accepted."""

    expect: str | None = None
    reason: str = ""
    accept: bool = False


@dataclass(frozen=True)
class _Request:
    """A move that was asked for: of which alias, on which terms, how to ask again, what judges and what moves it."""

    alias: str
    terms: MoveTerms
    again: str
    judge: Callable[..., Judgement]
    move: Callable[[aliases.Judged], AliasEvent]


def promote(context: HomeContext, reference: str, alias: str, *, terms: MoveTerms, progress: Progress | None) -> Move:
    """Move an alias to a version; see `limpet.home.nouns.adapter.Adapters.promote`."""
    check_alias(alias)
    version = versions.resolve(context.store, reference)

    def move(judged: aliases.Judged) -> AliasEvent:
        return aliases.promote(
            context.store, version.reference, alias, expect=terms.expect, reason=terms.reason, judged=judged
        )

    request = _Request(alias, terms, f"limpet adapter promote {version.reference} {alias}", judge_promotion, move)
    return _move(context, version, request, progress=progress or SILENT)


def rollback(context: HomeContext, task: str, alias: str, *, terms: MoveTerms, progress: Progress | None) -> Move:
    """Move an alias back to the version before; see `limpet.home.nouns.adapter.Adapters.rollback`."""
    check_alias(alias)

    def move(judged: aliases.Judged) -> AliasEvent:
        return aliases.rollback(context.store, task, alias, expect=terms.expect, reason=terms.reason, judged=judged)

    stands = standing(context, task, alias)
    if not _as_expected(terms.expect, task, stands):
        # where it stands is said before anything else
        return _done(context, move(aliases.Judged(stands)))
    version = versions.resolve(context.store, aliases.rollback_to(context.store, task, alias))
    request = _Request(alias, terms, f"limpet adapter rollback {task} {alias}", judge_move, move)
    return _move(context, version, request, progress=progress or SILENT)


def unpromote(context: HomeContext, task: str, alias: str, *, terms: MoveTerms) -> Move:
    """Take an alias off; see `limpet.home.nouns.adapter.Adapters.unpromote`."""
    event = aliases.unpromote(context.store, task, alias, reason=terms.reason, expect=terms.expect)
    move = _done(context, event)
    old = f"{task}@{event.from_number}"
    if alias != PRODUCTION or move.answers in (None, old):
        return move
    compared = compare_versions(context.store, old, str(move.answers), read=read_predictions(context.store))
    return replace(move, replaced=compared)


def _done(context: HomeContext, event: AliasEvent) -> Move:
    return Move(**vars(event), answers=answering(context, event.task))


def _move(context: HomeContext, version: VersionRecord, request: _Request, *, progress: Progress) -> Move:
    alias, terms, again = request.alias, request.terms, request.again
    check_reason(terms.reason)
    if terms.accept and not terms.reason.strip():
        raise UsageError(
            "A loss is accepted only with a reason, which the log keeps.", f"{again} --accept --reason TEXT"
        )
    check_no_alarm(context.store, [version.reference])
    judgement = _judge(context, version, request, progress=progress)
    refused = bool(judgement.crossings)
    if refused and not terms.accept:
        what = f"{version.reference} may not take the place of what answers under {alias}"
        outcome = Refused(
            version.task, alias, judgement.stands, version.number, judgement.outcome(False), judgement.verdicts
        )
        hint = f"limpet report home; to go on on purpose: {again} --accept --reason TEXT"
        raise refusal(what, judgement, hint, outcome=outcome)
    replaced = judgement.outcome(True)
    old = replaced.old if replaced else None
    accepted = _accepted(context, version, judgement) if terms.accept else None
    event = request.move(aliases.Judged(judgement.stands, old, accepted))
    if replaced is not None and terms.accept:
        replaced = replace(replaced, accepted=event.reason)
    moved = judgement.stands != version.number
    return replace(
        _done(context, event),
        replaced=replaced,
        warnings=judgement.notes,
        moved=moved,
        verdicts=judgement.verdicts,
    )


def _accepted(context: HomeContext, version: VersionRecord, judgement: Judgement) -> tuple[str, ...]:
    """The rules that are crossed now, and those that bar the version since it was added."""
    bars = gate_refusals.bars(context.store, version.reference)
    return tuple(dict.fromkeys([*(found.rule for found in judgement.crossings), *(bar.rule for bar in bars)]))


def _judge(context: HomeContext, version: VersionRecord, request: _Request, *, progress: Progress) -> Judgement:
    """Judge a move; not one that is refused anyway: the alias stands elsewhere than expected, or need not move."""
    stands = standing(context, version.task, request.alias)
    if stands == version.number or not _as_expected(request.terms.expect, version.task, stands):
        return Judgement((), stands=stands)
    return request.judge(context, version, read_rules(context.path), alias=request.alias, progress=progress)


def _as_expected(expect: str | None, task: str, stands: int | None) -> bool:
    return expect is None or expect == ("none" if stands is None else f"{task}@{stands}")
