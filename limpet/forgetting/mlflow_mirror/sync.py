"""The MLflow mirror of a home: one way, idempotent, resumable.

The registry is the truth. `sync` sends what MLflow does not have yet; cut off anywhere, the next one
completes it without making anything twice. Training and registration never depend on a tracking server: they
call `sync_after`, which has one deadline for all that it does, or leave it to a process of its own
(`limpet.forgetting.mlflow_mirror.background`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limpet.errors import LimpetError, UsageError
from limpet.forgetting.mlflow_mirror import state
from limpet.forgetting.mlflow_mirror.evidence import FORGETTING
from limpet.forgetting.mlflow_mirror.notes import Answering, Served, home_note
from limpet.forgetting.mlflow_mirror.sent_items import REGISTERED
from limpet.forgetting.mlflow_mirror.streams import push_stream
from limpet.forgetting.mlflow_mirror.tracking import NOTE, OFF, Tracking, connect, home_name, tracking_uri
from limpet.forgetting.mlflow_mirror.versions import (
    all_versions,
    logged_model,
    push_aliases,
    push_deletion,
    push_name,
    push_registered,
    push_removal,
)
from limpet.redaction import hide_secrets
from limpet.registry.records import streams, tasks
from limpet.registry.records.rows import PRODUCTION
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.registry.versions.serving import serving_summary

__all__ = ["DEADLINE_SECONDS", "MirrorReport", "sync", "sync_after"]

DEADLINE_SECONDS = 60.0


@dataclass(frozen=True)
class MirrorReport:
    """What a sync did.

    `pushed` counts `streams`, `arms`, `steps`, `versions`, `deletions` and `aliases` that were sent, `skipped` the
    streams and versions that were there already. `notes` say what MLflow has under another name.
    """

    uri: str
    experiment: str
    pushed: Mapping[str, int]
    skipped: Mapping[str, int]
    notes: tuple[str, ...]


def sync(store: Store, again: bool = False) -> MirrorReport:
    """Bring the mirror up to date.

    Args:
        store: The home.
        again: Look up everything in MLflow anew, also what was sent before: heals what was deleted there.

    Raises:
        UsageError: The home's mirror is off.
        UnavailableError: The tracking server can't be reached, or refused something.
        ConflictError: Another process kept the mirror busy.
    """
    if store.settings.mlflow == OFF:
        raise UsageError("The MLflow mirror of this home is off.", 'remove `mlflow = "off"` from limpet.toml')
    # taken before the registry is read, which has what was added before it
    request = state.newest_request(store)
    try:
        report = _sync(store, again)
    except BaseException as error:
        # whatever it was, Ctrl-C too: the mirror is behind
        state.settle(store, request, " ".join(str(error).split()) or type(error).__name__)
        raise
    state.settle(store, request)
    return report


def _sync(store: Store, again: bool) -> MirrorReport:
    pushed: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    notes: list[str] = []
    with connect(store, again) as tracking:
        for stream in streams.list_all(store):
            sent = push_stream(tracking, stream)
            pushed += sent
            skipped["streams"] += not sent
        # before the versions are sent, so that what answers is among them
        serving = serving_summary(store)
        answering = {task.version.reference for task in serving if task.version}
        pages: dict[str, Served] = {}
        others: list[Served] = []
        for task in tasks.list_all(store, removed=True):
            records = all_versions(tracking, task.name)
            _push_versions(tracking, records, pushed, skipped=skipped)
            for version in records:
                if version.reference in answering:
                    pages[version.reference] = _served(tracking, version, PRODUCTION)
                others += [_served(tracking, version, alias) for alias in version.aliases if alias != PRODUCTION]
            moved, renamed = push_aliases(tracking, task.name, records)
            pushed["aliases"] += moved
            push_removal(tracking, task)
            notes.extend(renamed)
        tasks_now = [Answering(one, pages.get(one.version.reference) if one.version else None) for one in serving]
        _push_note(tracking, home_note(home_name(store), tasks_now, _forgetting(tracking), others=others))
        return MirrorReport(
            hide_secrets(tracking_uri(store)), tracking.experiment, dict(+pushed), dict(+skipped), tuple(notes)
        )


def _push_versions(
    tracking: Tracking, records: Sequence[VersionRecord], pushed: Counter[str], *, skipped: Counter[str]
) -> None:
    # oldest first, so that MLflow counts them as limpet does
    for version in records:
        logged_model(tracking, version.reference, None)
        if push_registered(tracking, version):
            pushed["versions"] += 1
        else:
            skipped["versions"] += 1
        pushed["deletions"] += push_deletion(tracking, version)
        push_name(tracking, version)


def _forgetting(tracking: Tracking) -> list[str]:
    """Return for each stream who forgets in it, with a link to its run; the one that was worked on last is first."""
    found = []
    for stream in sorted(streams.list_all(tracking.store), key=lambda one: one.updated_at, reverse=True):
        run = tracking.known(f"stream:{stream.name}")
        assert run is not None
        said = tracking.client.get_run(run).data.tags.get(FORGETTING)
        if said:
            found.append(f"In [{stream.name}]({_run_page(tracking, run)}) {said}")
    return found


def _served(tracking: Tracking, version: VersionRecord, alias: str) -> Served:
    number, name = tracking.known(f"{REGISTERED}{version.reference}"), tracking.known(f"task:{version.task}")
    run = tracking.client.get_logged_model(logged_model(tracking, version.reference, None)).source_run_id
    return Served(
        alias=alias,
        version=version,
        version_page=f"#/models/{name}/versions/{number}",
        run_page=_run_page(tracking, run),
        data=tasks.of_version(tracking.store, version).definition.data,
    )


def _run_page(tracking: Tracking, run: str) -> str:
    return f"#/experiments/{tracking.experiment}/runs/{run}"


def _push_note(tracking: Tracking, note: str) -> None:
    if not tracking.unchanged("note", note):
        tracking.client.set_experiment_tag(tracking.experiment, NOTE, note)
        tracking.keep("note", tracking.experiment, note)


def sync_after(store: Store, seconds: float = DEADLINE_SECONDS) -> str | None:
    """Bring the mirror up to date after something was registered, whatever happens to the tracking server.

    Args:
        store: The home.
        seconds: How long all of it may take: a server that sends a byte now and then holds nobody for longer.

    Returns:
        A warning of one line if it could not be done now; the next sync catches up. None otherwise.
    """
    if store.settings.mlflow == OFF:
        return None
    failures: list[str] = []

    def work() -> None:
        try:
            sync(store)
        except (LimpetError, OSError) as error:
            failures.append(" ".join(str(error).split()))

    # a daemon: the process may end while a server still keeps this thread waiting
    worker = threading.Thread(target=work, name="limpet-mirror", daemon=True)
    worker.start()
    worker.join(seconds)
    if worker.is_alive():
        failures.append(f"It was not done after {seconds:g} s, the most that is waited for it.")
    return f"The MLflow mirror is behind: {failures[0]} It catches up at the next sync." if failures else None
