"""The doctor: one line for each thing that limpet needs, and what to type where it is not as it should be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from limpet.errors import NotFoundError
from limpet.home.doctor import home as looks
from limpet.home.doctor import machine
from limpet.home.doctor.findings import Finding, guarded
from limpet.registry.settings import SETTINGS_FILE, load_settings
from limpet.registry.store import find_home, open_store

__all__ = ["Finding", "examine"]


def examine(path: Path | None = None) -> Iterator[Finding]:
    """Look at the machine and at a home, as far as they can be looked at; nothing heavy is imported.

    Args:
        path: The home's folder; by default the one that every other command would use.
    """
    yield from guarded("python", machine.python)
    yield from guarded("packages", machine.packages)
    yield from guarded("cache", machine.cache)
    home, finding = _find(path)
    yield finding
    if home is None:
        yield from guarded("free disk", lambda: machine.disk(Path.cwd()))
        return
    yield from guarded("free disk", lambda: machine.disk(home))
    yield from _examine_home(home)


def _find(path: Path | None) -> tuple[Path | None, Finding]:
    """Return the home, and why it is this one."""
    variable = os.environ.get("LIMPET_HOME")
    why = "by --home" if path is not None else "by LIMPET_HOME" if variable else "the nearest .limpet/ upward"
    try:
        home = find_home(Path.cwd(), path)
    except NotFoundError as error:
        return None, Finding("home", "warn", error.message, error.hint)
    if not (home / SETTINGS_FILE).is_file():
        return None, Finding("home", "fail", f"there is none in {home} ({why})", f"limpet init --home {home}")
    return home, Finding("home", "ok", f"{home} ({why})")


def _examine_home(home: Path) -> Iterator[Finding]:
    read = list(guarded("settings", lambda: looks.settings(home, load_settings(home))))
    yield from read
    if any(finding.status == "fail" for finding in read):
        return
    settings = load_settings(home)
    yield from (found := list(guarded("database", lambda: looks.database(home, settings))))
    yield from guarded("blobs", lambda: looks.blobs(home, settings))
    yield from guarded("runs", lambda: looks.unfinished(home))
    # the rest reads the registry, which must have the schema of this program
    if any(finding.status == "fail" for finding in found):
        return
    store = open_store(home)
    try:
        yield from guarded("base", lambda: looks.known_bases(store))
        yield from guarded("mirror", lambda: looks.mirror(store))
        yield from guarded("garbage", lambda: looks.garbage(store))
        yield from guarded("protected aliases", lambda: looks.protection(store))
    finally:
        store.database.close()
