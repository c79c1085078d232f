"""What the mirror was asked for last and how far it came: small files of the home, which outlive every process.

Whoever adds to a home leaves a request, each with a name of its own. Whoever has mirrored says which request that
answered, and what failed if it did. So a mirror that was killed anywhere is known to be behind, and nobody needs to
watch it.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from limpet.registry.formats.json_values import JsonObject
from limpet.registry.store import Store
from limpet.registry.system.atomic_files import write_file
from limpet.registry.system.clock import utc_now

__all__ = ["MirrorState", "alone", "is_lock_of", "newest_request", "read", "request", "settle"]

_REQUESTED = "mirror-requested.json"
_STATE = "mirror-state.json"
_LOCK = "mirror-process.lock"
# somebody who only looks whether a process runs has the lock for a moment
_LOOKING_SECONDS = 0.2


@dataclass(frozen=True)
class MirrorState:
    """How a mirror stands: whether a process of its own works on it now, and what it is behind by.

    `behind_since` is when the request was made that nobody has answered, null where there is none. `failure` is what
    kept the last attempt from it, in a sentence; null where it succeeded or did not come to its end.
    """

    running: bool
    behind_since: str | None
    failure: str | None

    def warning(self) -> str | None:
        """Return in a line that the mirror is behind and why; null where it is not, or is just being helped."""
        if self.running or self.behind_since is None:
            return None
        why = self.failure or "The process that was to bring it up to date ended early; mirror.log has what it said."
        return f"The MLflow mirror is behind since {self.behind_since[:16].replace('T', ' ')} UTC: {why}"


def request(store: Store) -> str:
    """Ask for everything that is in the registry now to be mirrored; return the request's name.

    Raises:
        OSError: The home can't be written to.
    """
    name = f"{utc_now()} {secrets.token_hex(4)}"
    _write(store, _REQUESTED, {"request": name})
    return name


def newest_request(store: Store) -> str | None:
    """Return the newest request; null where nobody has asked yet."""
    name = _read(store, _REQUESTED).get("request")
    return name if isinstance(name, str) else None


def settle(store: Store, answered: str | None, failure: str | None = None) -> None:
    """Keep how an attempt ended.

    Args:
        store: The home.
        answered: The newest request when the attempt began; what it mirrored was in the registry by then.
        failure: What it failed by, in a sentence; null where everything was sent.
    """
    _write(store, _STATE, {"answered": answered, "at": utc_now(), "failure": failure})


def read(store: Store) -> MirrorState:
    """Return how the home's mirror stands; nothing is changed."""
    # in this order: what a process that ends in between has settled is read after it
    running = _is_running(store)
    asked, state = newest_request(store), _read(store, _STATE)
    failure = state.get("failure")
    failure = failure if isinstance(failure, str) else None
    if failure is None and (asked is None or asked == state.get("answered")):
        return MirrorState(running, None, None)
    return MirrorState(running, (asked or str(state.get("at"))).split()[0], failure)


@contextmanager
def alone(store: Store) -> Iterator[IO[bytes] | None]:
    """Open the lock of the one process that mirrors beside the commands; null where another process has it.

    A process that inherits the open file has the lock from then on.
    """
    with (store.path / _LOCK).open("ab") as file:
        until = time.monotonic() + _LOOKING_SECONDS
        while not _locked(file, fcntl.LOCK_EX):
            if time.monotonic() >= until:
                yield None
                return
            time.sleep(0.02)
        yield file


def is_lock_of(store: Store, lock: IO[bytes]) -> bool:
    """Whether an open lock is still that of the home in this folder, which was neither moved nor removed.

    Raises:
        OSError: There is none in the folder.
        ValueError: The lock is closed.
    """
    return os.path.samestat((store.path / _LOCK).stat(), os.fstat(lock.fileno()))


def _is_running(store: Store) -> bool:
    try:
        with (store.path / _LOCK).open("rb") as file:
            return not _locked(file, fcntl.LOCK_SH)
    except OSError:
        return False


def _locked(file: IO[bytes], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(store: Store, name: str, content: JsonObject) -> None:
    write_file(store.path / name, json.dumps(content).encode())


def _read(store: Store, name: str) -> JsonObject:
    try:
        content = json.loads((store.path / name).read_bytes())
    except (OSError, ValueError):
        # not there yet, or damaged: then nothing is known, and the next request is answered all the same
        return {}
    return content if isinstance(content, dict) else {}
