"""The process that mirrors beside the commands: nobody waits for it, and it leaves nothing behind but the mirror."""

from __future__ import annotations

import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from limpet.forgetting.mlflow_mirror import background, state, sync
from limpet.home.additions import mirror
from limpet.registry.store import Store
from tests.forgetting.grown_home import grow
from tests.forgetting.mlflow_mirror.test_sync import mlflow_of
from tests.warm import Process, Warm

MIRROR = """\
import sys
from pathlib import Path
from limpet.forgetting.mlflow_mirror import background, state
from limpet.registry.store import open_store
home = Path(sys.argv[1])
with state.alone(open_store(home)) as lock:
    background.main(home, lock, float(sys.argv[2]))
"""


def until(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A tracking server that takes every question and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def address(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def stuck(store: Store, silent: socket.socket, warm: Warm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """A process that mirrors `store` to a server that never answers, and has asked it."""
    monkeypatch.setenv("LIMPET_MLFLOW", address(silent))
    state.request(store)
    process = warm.start("-c", MIRROR, store.path, 600)
    with silent.accept()[0]:
        assert state.read(store).running
        yield process
    process.kill()
    process.close()


def mirroring() -> list[int]:
    """The processes that mirror, of those that this one has started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        # it may end between any two questions
        with suppress(psutil.Error):
            if background.__name__ in child.cmdline():
                found.append(child.pid)
    return found


def test_a_command_is_over_at_once_and_one_process_mirrors_all_that_was_added_meanwhile(
    store: Store, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIMPET_MIRROR_SECONDS")
    shutil.copy(empty_database, store.path / "mlflow.db")
    few = {"isolated": ("isolated", "lora")}
    grow(store, tmp_path, steps=1, arms=few)
    # what failed last time is said when it is tried again
    state.settle(store, None, "The server can't be reached.")
    started = time.monotonic()
    (warning,) = mirror(store, wait=False)
    assert "The server can't be reached. It is tried again now." in warning
    assert time.monotonic() - started < 1
    assert state.read(store).running
    # a second addition finds the process at work, and starts no other
    grow(store, tmp_path, steps=2, arms=few)
    assert mirror(store, wait=False) == ()
    assert len(mirroring()) == 1
    until(lambda: not mirroring())
    assert state.read(store) == state.MirrorState(False, None, None)
    assert (store.path / "mirror.log").read_text() == ""
    assert len(mlflow_of(store).runs()) == 1 + 1 + 2
    assert sync.sync(store).pushed == {}


def test_the_process_ends_with_its_home_and_does_not_make_it_again(store: Store, stuck: Process) -> None:
    shutil.rmtree(store.path)
    assert stuck.wait(timeout=20) == 1
    assert not store.path.exists()


def test_a_process_that_was_killed_leaves_a_mirror_that_is_known_to_be_behind(store: Store, stuck: Process) -> None:
    stuck.send_signal(signal.SIGKILL)
    stuck.wait(timeout=20)
    now = state.read(store)
    assert not now.running
    assert "ended early" in (now.warning() or "")


def test_the_process_has_a_deadline_and_leaves_word_of_it(
    store: Store, silent: socket.socket, warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_MLFLOW", address(silent))
    state.request(store)
    process = warm.start("-c", MIRROR, store.path, 1)
    assert process.wait(timeout=20) == 1
    process.close()
    now = state.read(store)
    assert not now.running
    assert "not done in the time" in (now.warning() or "")


def test_a_command_waits_for_the_seconds_that_are_asked_for_and_a_word_is_no_number(
    store: Store, silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = replace(store, settings=replace(store.settings, mlflow=address(silent)))
    monkeypatch.setenv("LIMPET_MIRROR_SECONDS", "0.5")
    assert "was not done after 0.5 s" in mirror(slow, wait=False)[0]
    assert not mirroring()
    monkeypatch.setenv("LIMPET_MIRROR_SECONDS", "soon")
    assert "'soon', not a number" in mirror(slow, wait=False)[0]
