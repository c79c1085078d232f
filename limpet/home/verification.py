"""`home.verify`: the bases, the registry, and what the versions answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from limpet.errors import LimpetError
from limpet.first_few import first_few
from limpet.registry import versions
from limpet.registry.findings import Finding
from limpet.registry.records import bases, log, reference_outputs
from limpet.registry.records.alarms import open_alarms
from limpet.registry.verification.verify import contents, verify

if TYPE_CHECKING:
    from limpet.home.context import HomeContext
    from limpet.registry.records.reference_outputs import ReferenceOutputs
    from limpet.registry.store import Store
    from limpet.registry.values import BaseRecord, VersionRecord
    from limpet.training.base.backbone import Backbone
    from limpet.training.evaluation.reference_outputs import Replay
    from limpet.training.progress import Progress

__all__ = ["Verification", "verify_base", "verify_home"]

_PAGE = 1000
_LISTED = 10


@dataclass(frozen=True)
class Verification:
    """What a check of a home found.

    `checked` counts what was checked, by kind; `notes` are sentences about what could not be checked. `log_head` is
    the digest of the log's newest event, which covers the log and every row that it tells of; null for an empty log.
    """

    problems: tuple[Finding, ...]
    checked: Mapping[str, int]
    notes: tuple[str, ...] = ()
    log_head: str | None = None


@dataclass
class _Replays:
    """What replaying the probes gave, one version after the other."""

    problems: list[Finding] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    on_unsound_bases: list[str] = field(default_factory=list)
    identical: int = 0
    elsewhere: Counter[str] = field(default_factory=Counter)


def verify_home(context: HomeContext, *, deep: bool, probe: bool, progress: Progress) -> Verification:
    """Check every base, every file and record, and with `probe` what every version that is not deleted answers."""
    problems, sound = _check_bases(context, progress)
    progress.start("verify files", 1)

    def tell(done: int, total: int) -> None:
        if done == 1:
            progress.start("verify files", total)
        progress.advance(done)

    problems += verify(context.store, deep, tell)
    progress.finish()
    problems += [Finding("alarm", alarm.version, alarm.sentence()) for alarm in open_alarms(context.store)]
    checked, head = contents(context.store), log.head(context.store)
    if not probe:
        return Verification(tuple(problems), checked, log_head=head)
    replays = _replay_all(context, sound, progress)
    count = replays.identical + replays.elsewhere.total() + len(replays.problems)
    replayed = checked | {"replayed_probes": count}
    return Verification((*problems, *replays.problems), replayed, tuple(_notes(replays)), head)


def verify_base(store: Store, name: str | None = None) -> BaseRecord:
    """Read all bytes of a base again and compare; by default of the home's.

    Raises:
        IntegrityError: They differ.
    """
    from limpet.training.base import locate

    record = bases.get(store, name)
    locate.check(store, record, reread=True)
    return record


def _check_bases(context: HomeContext, progress: Progress) -> tuple[list[Finding], dict[str, BaseRecord]]:
    """Return what is wrong with the bases, and those that are sound by their digests."""
    problems: list[Finding] = []
    sound: dict[str, BaseRecord] = {}
    records = bases.list_all(context.store)
    progress.start("verify bases", len(records))
    for index, record in enumerate(records):
        try:
            sound[record.digest] = verify_base(context.store, record.name)
        except LimpetError as error:
            problems.append(Finding("base", record.name, error.message))
        progress.advance(index + 1, record.name)
    progress.finish()
    return problems, sound


def _replay_all(context: HomeContext, sound: Mapping[str, BaseRecord], progress: Progress) -> _Replays:
    replays = _Replays()
    by_base: dict[str, list[tuple[VersionRecord, ReferenceOutputs]]] = {}
    for version in _live(context):
        try:
            probe = reference_outputs.of(context.store, version.reference)
        except LimpetError as error:
            replays.problems.append(Finding("probe", version.reference, f"it can't be replayed: {error.message}"))
            continue
        if probe is None:
            replays.without.append(version.reference)
        elif version.base_digest not in sound:
            replays.on_unsound_bases.append(version.reference)
        else:
            by_base.setdefault(version.base_digest, []).append((version, probe))
    progress.start("replay probes", sum(len(found) for found in by_base.values()))
    done = 0
    for digest, found in by_base.items():
        backbone = _backbone(context, sound[digest])
        for version, probe in found:
            _replay(context, backbone, version, probe=probe, replays=replays)
            done += 1
            progress.advance(done, version.reference)
    progress.finish()
    return replays


def _live(context: HomeContext) -> Iterator[VersionRecord]:
    cursor = None
    while True:
        page = versions.find(context.store, limit=_PAGE, cursor=cursor)
        yield from page.items
        cursor = page.cursor
        if cursor is None:
            return


def _backbone(context: HomeContext, record: BaseRecord) -> Backbone:
    from limpet.training.base.backbone import load_backbone

    # a model that is in memory already is the one that answers
    return context.loaded(record.digest) or load_backbone(context.store, record)


def _replay(
    context: HomeContext, backbone: Backbone, version: VersionRecord, *, probe: ReferenceOutputs, replays: _Replays
) -> None:
    from limpet.training.evaluation.reference_outputs import replay

    try:
        found = replay(context.store, backbone, version, recorded=probe)
    except LimpetError as error:
        replays.problems.append(Finding("probe", version.reference, f"it can't be replayed: {error.message}"))
        return
    if not found.sound:
        replays.problems.append(Finding("probe", version.reference, _detail(found)))
    elif found.identical:
        replays.identical += 1
    else:
        replays.elsewhere["; ".join(found.changed)] += 1


def _detail(replay: Replay) -> str:
    size = f"its logits differ by up to {replay.largest_difference:.1e}, where the largest is {replay.scale:.1e}"
    if replay.same_environment:
        return f"{size}; the recorded environment is this one, so the base in memory or a library was changed"
    return f"{size}; since it was recorded, this changed: {'; '.join(replay.changed)}"


def _notes(replays: _Replays) -> Iterator[str]:
    for changed, count in replays.elsewhere.items():
        yield f"{_versions(count)} answered within the tolerance, but with other bits, because of {changed}"
    if replays.without:
        named = first_few(replays.without, _LISTED)
        yield f"{_versions(len(replays.without))} made before there were probes: {named}"
    if replays.on_unsound_bases:
        yield f"not replayed, because the base is not what it was: {first_few(replays.on_unsound_bases, _LISTED)}"


def _versions(count: int) -> str:
    return f"{count} version" if count == 1 else f"{count} versions"
