"""What one has to know to trust the numbers, in sentences: unlike treatment of arms, and other answers served."""

from __future__ import annotations

from collections.abc import Sequence

from limpet.first_few import first_few
from limpet.forgetting.report.arm_values import ArmReport, VersionReport
from limpet.forgetting.report.values import Report
from limpet.training import methods

__all__ = ["looked_back", "removed_tasks", "served_sentences", "unlike_treatment"]


def removed_tasks(report: Report) -> list[str]:
    """Return a sentence for each task that was removed since: what was measured of it stays."""
    return [
        f"The task {name} was removed on {tombstone.created_at[:10]} by {tombstone.actor}: "
        f"{tombstone.reason.rstrip('.')}. What was measured of it stays."
        for name, tombstone in report.removed.items()
    ]


def looked_back(arm: ArmReport) -> list[str]:
    """Return what was not evaluated again after the last step: what an audit stands for, and what nothing does."""
    said = []
    if audited := arm.audited_now:
        said.append(
            f"After the last addition {_tasks(audited)} audited and not evaluated again: files, base and weights in "
            "memory had the digests on record and a few inputs gave the same bits, so the scores were carried "
            "forward."
        )
    if missing := arm.not_evaluated:
        said.append(
            f"After the last addition {_tasks(missing)} not evaluated again, so nothing shows what became of "
            f"{'it' if len(missing) == 1 else 'them'}: limpet evaluate --all."
        )
    return said


def _tasks(names: Sequence[str]) -> str:
    return f"{first_few(names, 5)} {'was' if len(names) == 1 else 'were'}"


def unlike_treatment(report: Report) -> list[str]:
    """Return what differs between arms beside what they are compared for."""
    return [*_dropout(report), *_sweeps(report)]


def _dropout(report: Report) -> list[str]:
    """Dropout acts in the modules that are trained: in a copy of the base all of them, in a frozen base none."""
    trained = [arm for arm in report.arms if arm.method in methods.names()]
    copies = {arm.name: methods.get(arm.method).capabilities.trains_base_copy for arm in trained}
    if len(set(copies.values())) < 2:
        return []
    named = ", ".join(name for name, copy in copies.items() if copy)
    return [
        f"Dropout of the base, if it has any, acted while {named} trained a copy of it, and not in the frozen base "
        "under the other arms."
    ]


def _sweeps(report: Report) -> list[str]:
    """A sweep would cost as many times more as there are seeds and orders; one of each chooses for all."""
    swept = dict.fromkeys(arm.name for arm in report.arms if arm.sweep)
    seeds = sorted({arm.seed for arm in report.arms})
    if not swept or (len(seeds) < 2 and len(report.orders) < 2):
        return []
    others = [what for what, many in (("seeds", len(seeds) > 1), ("orders", len(report.orders) > 1)) if many]
    return [
        f"The sweeps of {', '.join(swept)} chose under one seed and one order of the tasks, the first; the other "
        f"{' and '.join(others)} use the choice and had none of their own."
    ]


def served_sentences(versions: Sequence[VersionReport]) -> list[str]:
    """Return a sentence that names the versions whose `served_agreement` is below 1; none where all serve alike.

    Versions of older homes have no such figure, and nothing is said of them.
    """
    below = [
        (version.reference, version.served_agreement)
        for version in versions
        if version.served_agreement is not None and version.served_agreement < 1
    ]
    if not below:
        return []
    named = ", ".join(f"{reference} on {share:.1%} of the examples" for reference, share in dict(below).items())
    return [
        f"What is served is not always what was measured: the served answers are the measured ones for {named}; "
        f"limpet adapter show {below[0][0]} names the others."
    ]
