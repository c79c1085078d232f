"""What ability tasks come to, in sentences worded by their tests."""

from __future__ import annotations

from collections.abc import Sequence

from limpet.forgetting import strategies
from limpet.forgetting.metrics import in_words, intervals
from limpet.forgetting.metrics.inference import is_shown
from limpet.forgetting.metrics.intervals import Interval
from limpet.forgetting.report.arm_values import AbilityReport, ArmReport

__all__ = ["ability_sentences"]


def ability_sentences(runs: Sequence[ArmReport]) -> list[str]:
    """Return what an arm did to general ability, from its runs, one for each seed; nothing where none was asked.

    A change is called one only if its corrected p-value is below 0.05, and where there are several seeds, under each
    of them to the same side.
    """
    if not all(run.ability and run.matrix for run in runs) or strategies.get(runs[0].strategy).measures:
        return []
    of_adapters = strategies.get(runs[0].strategy).role == "adapter"
    changes = [
        _while_active(runs, place) if of_adapters else _at_the_end(runs, place)
        for place in range(len(runs[0].ability))
    ]
    return [*_taken_off(runs), *changes, *_adapters(runs)]


def _at_the_end(runs: Sequence[ArmReport], place: int) -> str:
    abilities = [run.ability[place] for run in runs]
    changes = [ability.steps[-1] - ability.before for ability in abilities]
    interval = abilities[0].intervals[-1] if len(abilities) == 1 else intervals.t_interval(changes)
    change = sum(changes) / len(changes)
    verbs = {_verb(ability, -1) for ability in abilities}
    verb = verbs.pop() if len(verbs) == 1 else ""
    measured = _measured(abilities[0], change, interval)
    if verb and len(abilities) > 1:
        return f"Under each of its seeds, {runs[0].name} {verb} general ability by its last task ({measured})."
    if not verb:
        return f"No change of general ability was seen in {runs[0].name} after its last task ({measured})."
    return f"{runs[0].name} {verb} general ability by its last task ({measured})."


def _while_active(runs: Sequence[ArmReport], place: int) -> str:
    """The adapter that did the most harm to one ability task, under whichever seed."""
    each = [
        ((value - ability.before) * (1 if ability.less_is_better else -1), run, ability, at)
        for run in runs
        for ability in (run.ability[place],)
        for at, value in enumerate(ability.steps)
    ]
    harm = [change for change in each if _verb(change[2], change[3]) == "lost"]
    _, run, ability, at = max(harm or each, key=lambda change: change[0])
    which = f"that of {run.tasks[at]}" + (f" under seed {run.seed}" if len(runs) > 1 else "")
    measured = _measured(ability, ability.steps[at] - ability.before, ability.intervals[at])
    if harm:
        return f"While an adapter of {run.name} is active, general ability is lower, most with {which} ({measured})."
    return (
        f"No harm to general ability was seen while an adapter of {run.name} is active; at worst it is {which} "
        f"({measured})."
    )


def _taken_off(runs: Sequence[ArmReport]) -> list[str]:
    asked = [ability.identical for run in runs for ability in run.ability if ability.identical is not None]
    if not asked:
        return []
    if all(asked):
        return [
            f"With the adapters of {runs[0].name} taken off, the base answers every ability task bit for bit as "
            "before."
        ]
    return [f"With the adapters of {runs[0].name} taken off, the base does not answer as before: do not trust them."]


def _adapters(runs: Sequence[ArmReport]) -> list[str]:
    compared = [adapter for run in runs for adapter in run.adapters if adapter.wrong is not None]
    if not compared:
        return []
    differences = [
        adapter.own - adapter.wrong for adapter in compared if adapter.wrong is not None and is_shown(adapter.p_holm)
    ]
    needed = [difference for difference in differences if difference > 0]
    harmed = [difference for difference in differences if difference < 0]
    worse = f", and below in {len(harmed)}" if harmed else ""
    return [
        f"Through its own head, a task of {runs[0].name} scored above another's adapter with its own in "
        f"{len(needed)} of {len(compared)} cases{worse}, beyond chance."
    ]


def _verb(ability: AbilityReport, step: int) -> str:
    if not ability.p_holm or not is_shown(ability.p_holm[step]):
        return ""
    return "lost" if (ability.steps[step] > ability.before) == ability.less_is_better else "gained"


def _measured(ability: AbilityReport, change: float, interval: Interval | None) -> str:
    own = ability.kind == ability.metric
    what = f"{ability.metric} of {ability.task}" if own else f"{ability.kind} {ability.metric} on {ability.task}"
    return f"{what} {in_words.with_interval(change, interval)}"
