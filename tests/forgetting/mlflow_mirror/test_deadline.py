"""A tracking server that is slow, odd or wants a password keeps nobody, and no password is shown."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from limpet.errors import UnavailableError
from limpet.forgetting.mlflow_mirror import sync, tracking
from limpet.forgetting.mlflow_mirror.dashboard import _command
from limpet.forgetting.mlflow_mirror.notes import LONGEST_NOTE, Answering, Served, home_note
from limpet.forgetting.mlflow_mirror.versions import _legal_alias
from limpet.registry import versions
from limpet.registry.store import Store
from limpet.registry.versions.serving import serving_summary
from tests.forgetting.grown_home import grow


@contextmanager
def server(answer: bytes, pause: float) -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends `answer` byte by byte, with pauses, to whoever asks; and what it was asked."""
    asked: list[bytes] = []
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def answering(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            asked.append(connection.recv(65536))
            for byte in answer:
                if ended.wait(pause):
                    return
                connection.sendall(bytes([byte]))

    def accepting() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answering, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accepting, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        ended.set()
        listener.close()


TRICKLE = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 100_000
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"


def on(store: Store, uri: str) -> Store:
    return replace(store, settings=replace(store.settings, mlflow=uri))


def test_a_server_that_trickles_bytes_is_waited_for_until_the_deadline_and_no_longer(store: Store) -> None:
    with server(TRICKLE, 0.05) as (address, _):
        started = time.monotonic()
        warning = sync.sync_after(on(store, f"http://{address}"), seconds=1)
        assert 0.9 < time.monotonic() - started < 3
    assert warning is not None and "was not done after 1 s" in warning


def test_the_question_whether_a_server_is_there_has_a_deadline_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_TIMEOUT_SECONDS", 0.3)
    with (
        server(TRICKLE, 0.05) as (address, _),
        pytest.raises(UnavailableError, match=r"has not answered for 0\.6 s"),
    ):
        tracking.check_reachable(on(store, f"http://{address}"))


def test_a_user_in_the_address_is_sent_as_a_header_and_shown_nowhere(store: Store) -> None:
    with server(HEALTHY, 0) as (address, asked):
        tracking.check_reachable(on(store, f"http://ana:hunter%402@{address}/base"))
    token = base64.b64encode(b"ana:hunter@2")
    assert asked[0].startswith(b"GET /base/health ")
    assert b"Authorization: Basic " + token in asked[0]
    with pytest.raises(UnavailableError) as caught:
        tracking.check_reachable(on(store, "http://ana:hunter2@127.0.0.1:9"))
    assert "hunter2" not in caught.value.message and "ana:***@127.0.0.1:9" in caught.value.message


@pytest.mark.parametrize("uri", ["http://[::1", "http://ana:hunter2@host:port", "http://", "https://:x@/"])
def test_an_address_that_is_none_is_said_so(store: Store, uri: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        tracking.check_reachable(on(store, uri))
    assert "hunter2" not in caught.value.message
    assert sync.sync_after(on(store, uri)) is not None


def test_the_dashboard_gets_a_password_by_its_environment_alone(store: Store) -> None:
    assert not any("hunter2" in word for word in _command(on(store, "postgresql://ana:hunter2@db/mlflow"), 5000))


def test_the_note_of_a_home_with_many_aliases_fits_and_counts_what_is_left_out(store: Store, tmp_path: Path) -> None:
    grow(store, tmp_path, steps=1, arms={"isolated": ("isolated", "lora")})
    version = versions.resolve(store, "bbc-news@1")
    served = [
        Served(f"alias-{number}", version, "#/models/x", "#/runs/y", "sample:bbc-news") for number in range(500)
    ]
    answering = [
        Answering(replace(one, task=f"task-{n}"), served[0]) for n in range(100) for one in serving_summary(store)
    ]
    note = home_note("home", answering, ["a stream"] * 3, others=served)
    assert len(note) <= LONGEST_NOTE
    for beginning, total, where in (
        ("| task-", 400, "limpet status"),
        ("- **bbc-news@alias-", 500, "limpet adapter"),
    ):
        shown = note.count(f"\n{beginning}")
        assert 10 < shown < total
        assert f"- and {total - shown} more, which `{where}" in note
    assert note.endswith("not here.")


def test_every_alias_has_a_name_of_its_own_in_mlflow() -> None:
    aliases = ["a.b", "a-b", "a_b", "a__b", "a_dot_b", "a.b_c", "a_b.c", "v1", "v.1", "limpet-v1", "limpet-a_dot_b"]
    shown = {_legal_alias(alias) for alias in aliases}
    assert len(shown) == len(aliases)
    # what was legal before keeps its name
    assert {_legal_alias(alias) for alias in ("a-b", "a_b", "production")} == {"a-b", "a_b", "production"}
