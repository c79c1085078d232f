"""Serves a home's MLflow mirror on this machine: `mlflow server` as a child process, bound to 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from limpet.errors import ConflictError, UnavailableError, UsageError
from limpet.forgetting.mlflow_mirror import sent_items
from limpet.forgetting.mlflow_mirror.tracking import OFF, artifact_folder, is_local, tracking_uri
from limpet.redaction import hide_secrets
from limpet.registry.store import Store

__all__ = ["Dashboard", "free_port", "serve"]

HOST = "127.0.0.1"
_START_SECONDS = 90
_STOP_SECONDS = 10
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # no scheduled jobs are wanted here, and their workers would double the memory
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that answers: the page with the home's streams, and its process if limpet started it."""

    url: str
    process: subprocess.Popen[bytes] | None

    def wait(self) -> None:
        """Return when the dashboard ends by itself, or at once where it is not ours."""
        if self.process is not None:
            self.process.wait()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(store: Store, port: int = 5000) -> Iterator[Dashboard]:
    """Serve this home's mirror until the block ends, by an exception such as Ctrl-C too.

    Args:
        store: The home; its mirror should have been synced once.
        port: A port of 127.0.0.1; unused where the mirror is on a server of its own, whose address is given.

    Raises:
        UsageError: The home's mirror is off.
        ConflictError: Somebody listens on the port already.
        UnavailableError: The dashboard ended at once, or did not answer in time.
    """
    if store.settings.mlflow == OFF:
        raise UsageError("The MLflow mirror of this home is off.", 'remove `mlflow = "off"` from limpet.toml')
    if not is_local(store):
        yield Dashboard(_page(store, hide_secrets(tracking_uri(store)).rstrip("/")), None)
        return
    _check_free(port)
    log = store.path / "mlflow-ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(store, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # not among its words, which every user of the machine may read
            env={**os.environ, **_ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": tracking_uri(store)},
            # a group of its own: Ctrl-C reaches limpet alone, which then stops the server and its workers
            start_new_session=True,
        )
    try:
        url = f"http://{HOST}:{port}"
        _wait_until_it_answers(process, url, log)
        yield Dashboard(_page(store, url), process)
    finally:
        _stop(process)


def _command(store: Store, port: int) -> list[str]:
    options = {
        "--default-artifact-root": artifact_folder(store).as_uri(),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
    }
    return [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        *(word for option in options.items() for word in option),
    ]


def _page(store: Store, server: str) -> str:
    """Return the address of the page with this home's streams, in the interface for trained models."""
    item = sent_items.find(store, "experiment")
    page = f"experiments/{item[0]}/runs" if item else "experiments"
    return f"{server}/#/{page}?workflowType=machine_learning"


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # as the server does, so that a port which is only winding down counts as free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OverflowError as error:
            raise UsageError(f"{port} is no port: ports are 1 to 65535.", "limpet ui --port 5001") from error
        except OSError as error:
            raise ConflictError(
                f"Port {port} of {HOST} can't be had: {error.strerror}.", f"limpet ui --port {free_port()}"
            ) from error


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UnavailableError(f"The dashboard ended at once with exit code {process.returncode}.", f"read {log}")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/health", timeout=2):
            return
        time.sleep(0.2)
    raise UnavailableError(f"The dashboard did not answer within {_START_SECONDS} s.", f"read {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            return
