"""Mirrors a home in a process of its own, so that a command that has told its result is over.

At most one such process works on a home. It answers the newest request, then those that were made meanwhile, and
ends; it ends too when its time is up, and when the home is moved or removed. What it says goes to `mirror.log`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from limpet.errors import LimpetError, UsageError
from limpet.forgetting.mlflow_mirror import state
from limpet.forgetting.mlflow_mirror.tracking import OFF
from limpet.registry.store import Store, open_store

__all__ = ["main", "start", "waiting_seconds"]

_SECONDS = 600.0
_LOOK_SECONDS = 0.5
_LOG = "mirror.log"


def waiting_seconds() -> float:
    """Return how many seconds a command is to wait for the mirror after its result: `LIMPET_MIRROR_SECONDS`, else 0.

    Raises:
        UsageError: It is no number.
    """
    seconds = os.environ.get("LIMPET_MIRROR_SECONDS") or "0"
    try:
        return float(seconds)
    except ValueError:
        raise UsageError(
            f"LIMPET_MIRROR_SECONDS is {seconds!r}, not a number of seconds.", "unset LIMPET_MIRROR_SECONDS"
        ) from None


def start(store: Store) -> str | None:
    """Leave the mirror to a process of its own, and return at once.

    Args:
        store: The home.

    Returns:
        A warning of one line if the last attempt failed or this one can't begin; null otherwise.
    """
    if store.settings.mlflow == OFF:
        return None
    before = state.read(store)
    try:
        state.request(store)
        # after the request: whoever has the lock looks for requests once more when it is free
        with state.alone(store) as lock:
            if lock is not None:
                _spawn(store, lock)
    except OSError as error:
        return f"The MLflow mirror is behind: {error}. It catches up at the next sync."
    warning = before.warning()
    return f"{warning} It is tried again now." if warning else None


def _spawn(store: Store, lock: IO[bytes]) -> None:
    with (store.path / _LOG).open("wb") as log:
        process = subprocess.Popen(
            # -P: what lies in the current folder is never taken for a library
            [sys.executable, "-P", "-m", __name__, str(store.path.absolute()), str(lock.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_settings(store)},
            # the lock is its own from its first moment on, so nobody starts a second one meanwhile
            pass_fds=[lock.fileno()],
            # neither Ctrl-C nor a terminal that is closed ends it
            start_new_session=True,
        )
    # a program that lives longer than it takes its exit code, as every parent should
    threading.Thread(target=process.wait, name="limpet-mirror-ended", daemon=True).start()


def _settings(store: Store) -> dict[str, str]:
    """The settings of this home as variables: they may have come from a caller, and may hold passwords."""
    settings = store.settings
    given = {"MLFLOW": settings.mlflow, "DB": settings.db, "BLOBS": settings.blobs, "CACHE": str(settings.cache)}
    return {f"LIMPET_{name}": value for name, value in given.items() if value}


def main(home: Path, lock: IO[bytes], seconds: float = _SECONDS) -> None:
    """Answer the requests for a home's mirror until there are none, if nobody else does.

    Args:
        home: The home's folder.
        lock: The lock of the process that mirrors, as `state.alone` gave it to whoever started this one.
        seconds: When this process ends at the latest.
    """
    # nobody waits for it
    os.nice(5)
    until, store = time.monotonic() + seconds, open_store(home)
    with lock:
        answered = _answer(store, lock, until)
    # without the lock: a request that was made while it was held has started nobody
    while state.newest_request(store) != answered:
        with state.alone(store) as mine:
            if mine is None:
                return
            answered = _answer(store, mine, until)


def _answer(store: Store, lock: IO[bytes], until: float) -> str | None:
    """Bring the mirror up to date; return the newest request that this answers, by a failure too."""
    from limpet.forgetting.mlflow_mirror.sync import sync

    threading.Thread(target=_watch, args=(store, lock, until), daemon=True).start()
    request = state.newest_request(store)
    try:
        sync(store)
    except (LimpetError, OSError) as error:
        # kept for the next command and for the doctor
        sys.stderr.write(f"{error}\n")
    return request


def _watch(store: Store, lock: IO[bytes], until: float) -> None:
    """End this process when its time is up, or when its home is no longer where it was."""
    while time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
        if lock.closed:
            return
        if not _is_there(store, lock):
            os._exit(1)
    state.settle(store, state.newest_request(store), "it was not done in the time that it may take.")
    os._exit(1)


def _is_there(store: Store, lock: IO[bytes]) -> bool:
    with suppress(ValueError):
        try:
            return state.is_lock_of(store, lock)
        except OSError:
            return False
    # closed just now: it is done
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.fdopen(int(sys.argv[2]), "ab"))
