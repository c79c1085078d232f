"""The way to MLflow: where this home's mirror is, a client on it, and what was sent already.

MLflow takes seconds to import and prints, retries and reports home by itself; all of that is kept inside
`connect`. Everything sent carries the tag `limpet.key`, so that a mirror cut off in the middle, or one whose
record was lost, finds what it made before instead of making it twice.
"""

from __future__ import annotations

import base64
import fcntl
import http.client
import logging
import os
import sqlite3
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import ConflictError, UnavailableError
from limpet.forgetting.mlflow_mirror import sent_items
from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonValue
from limpet.registry.store import HOME_FOLDER, Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = [
    "HOME",
    "KEY",
    "NOTE",
    "OFF",
    "Tracking",
    "artifact_folder",
    "check_reachable",
    "connect",
    "home_name",
    "is_local",
    "milliseconds",
    "tracking_uri",
]

KEY = "limpet.key"
HOME = "limpet.home"
# the tag that MLflow's interface shows as a description
NOTE = "mlflow.note.content"
# the setting `mlflow` of a home without a mirror
OFF = "off"
# raised when what is sent for a thing changes, so that the next sync sends it all again
FORMAT = 2
# the kinds of things whose key ends with a task or a version
_OF_TASKS = ("aliases", "deleted", "model", "named", "registered", "removed", "task", "version")
_TIMEOUT_SECONDS = 5
_LOCK_SECONDS = 60
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(_TIMEOUT_SECONDS),
    "GIT_PYTHON_REFRESH": "quiet",
}


def tracking_uri(store: Store) -> str:
    """Return the tracking URI of this home's mirror: the setting `mlflow`, else a SQLite file in the home."""
    return store.settings.mlflow or f"sqlite:///{store.path.absolute() / 'mlflow.db'}"


def artifact_folder(store: Store) -> Path:
    """Return the folder of plots and reports that a mirror without a server of its own keeps in the home."""
    return store.path.absolute() / "mlflow-artifacts"


def home_name(store: Store) -> str:
    """Return what readers call this home: the name of the folder that it serves."""
    folder = store.path.absolute()
    return folder.parent.name if folder.name == HOME_FOLDER else folder.name


def is_local(store: Store) -> bool:
    """Whether the mirror is a database that `limpet ui` serves, and not a server somewhere."""
    return not tracking_uri(store).startswith(("http:", "https:", "databricks"))


def check_reachable(store: Store) -> None:
    """Find out whether the mirror's server answers; a mirror that is a file needs none.

    Raises:
        UnavailableError: It does not.
    """
    _probe(tracking_uri(store))


def milliseconds(created_at: str) -> int:
    """Return an ISO 8601 time as MLflow's integer milliseconds since 1970."""
    from datetime import datetime

    return int(datetime.fromisoformat(created_at).timestamp() * 1000)


@dataclass(frozen=True)
class Tracking:
    """An open mirror: the home, MLflow's client, the experiment, and the id that tags what is ours."""

    store: Store
    client: MlflowClient
    experiment: str
    home: str

    def first(self, name: str) -> str:
        """Return `news@3`, or `news`, with the first name of its task: a task that was renamed is mirrored once."""
        return sent_items.names(self.store, name)[0]

    def was_renamed(self, task: str) -> bool:
        """Tell whether a task ever had another name."""
        return len(sent_items.names(self.store, task)) > 1

    def key(self, key: str) -> str:
        """Return a key as MLflow was told it first, whatever the task that it names is called now."""
        kind, colon, name = key.partition(":")
        return f"{kind}{colon}{self.first(name)}" if kind in _OF_TASKS else key

    def known(self, key: str) -> str | None:
        """Return the MLflow id of a thing that was sent before; None otherwise."""
        item = sent_items.find(self.store, self.key(key))
        return item[0] if item else None

    def unchanged(self, key: str, content: JsonValue) -> bool:
        """Whether just this content was sent under `key` already."""
        item = sent_items.find(self.store, self.key(key))
        return item is not None and item[1] == _content_digest(content)

    def keep(self, key: str, mlflow_id: str, content: JsonValue) -> None:
        """Remember that this content was sent under `key`; called when all of it was."""
        sent_items.keep(self.store, self.key(key), mlflow_id, content_digest=_content_digest(content))

    def tags(self, key: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the tags by which a thing is found again, and more."""
        return {KEY: self.key(key), HOME: self.home, **(more or {})}

    def filter(self, key: str) -> str:
        """Return the MLflow search that finds the thing with this key; both parts hold no quotes."""
        return f"tags.`{KEY}` = '{self.key(key)}' AND tags.`{HOME}` = '{self.home}'"

    def run(self, key: str, name: str, parent: str | None, *, started_at: int) -> Run:
        """Return the run with this key, made if it is not there, brought back if it was deleted.

        Args:
            key: What the run shows, such as `stream:four-topics`.
            name: Its name for readers.
            parent: The id of the run that it stands in.
            started_at: Milliseconds since 1970.
        """
        from mlflow.entities import ViewType

        found = self.client.search_runs(
            [self.experiment], self.filter(key), run_view_type=ViewType.ALL, max_results=1
        )
        if found:
            if found[0].info.lifecycle_stage == "deleted":
                self.client.restore_run(found[0].info.run_id)
            return found[0]
        tags = {"mlflow.parentRunId": parent} if parent else {}
        return self.client.create_run(
            self.experiment, start_time=started_at, tags=self.tags(key, tags), run_name=name
        )


def _content_digest(content: JsonValue) -> str:
    return digest_json([FORMAT, content])


@contextmanager
def connect(store: Store, again: bool = False) -> Iterator[Tracking]:
    """Open this home's mirror; only one process of a machine has it at a time.

    Args:
        store: The home.
        again: Forget what was sent, so that everything is looked up and completed.

    Raises:
        UnavailableError: The tracking server can't be reached, or refused something.
        ConflictError: Another process was writing the mirror for more than a minute.
    """
    uri = tracking_uri(store)
    with _alone(store), _quiet():
        _probe(uri)
        import mlflow
        import requests
        from sqlalchemy.exc import SQLAlchemyError

        failures = (
            mlflow.exceptions.MlflowException,
            requests.RequestException,
            SQLAlchemyError,
            OSError,
            ImportError,
        )
        try:
            yield _open(store, uri, again)
        except failures as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise UnavailableError(f"The MLflow mirror at {uri} failed: {why}.", "limpet ui --sync") from error


def _open(store: Store, uri: str, again: bool) -> Tracking:
    from mlflow import MlflowClient

    item = sent_items.find(store, "home")
    home = item[0] if item else uuid.uuid4().hex[:12]
    if item is None:
        sent_items.keep(store, "home", home, content_digest=_content_digest(home))
    root = artifact_folder(store).as_uri() if is_local(store) else None
    if root and store.settings.mlflow is None:
        _set_aside_if_moved(uri, root)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = _experiment(client, store, home, root=root)
    target = [uri, experiment]
    tracking = Tracking(store, client, experiment, home)
    if again or not tracking.unchanged("experiment", target):
        sent_items.forget_all(store, but="home")
        tracking.keep("experiment", experiment, target)
    return tracking


def _experiment(client: MlflowClient, store: Store, home: str, *, root: str | None) -> str:
    # named by the folder that the home serves, so that several homes can share one server
    name = f"limpet-{home_name(store)}"
    for candidate in (name, f"{name}-{home}"):
        found = client.get_experiment_by_name(candidate)
        if found is None:
            # without its kind the interface asks what the experiment is for
            tags = {HOME: home, "mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(candidate, artifact_location=root, tags=tags))
        if found.tags.get(HOME) == home:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
    raise ConflictError(
        f"The experiments {name} and {name}-{home} belong to somebody else on this server.",
        "limpet init --mlflow URI with another server",
    )


def _set_aside_if_moved(uri: str, root: str) -> None:
    """Rename a mirror's database that was written where the home stood before.

    MLflow keeps absolute artifact locations, so it would go on writing to the old place. The mirror is
    derived: it is made again from the registry.
    """
    file = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not file.is_file():
        return
    with closing(sqlite3.connect(file)) as connection:
        try:
            rows = connection.execute(
                "SELECT artifact_location FROM experiments WHERE name LIKE 'limpet-%'"
            ).fetchall()
        except sqlite3.DatabaseError:
            return
    if rows and all(location != root for (location,) in rows):
        file.replace(file.with_name(f"{file.stem}-before-move-{int(time.time())}{file.suffix}"))


def _probe(uri: str) -> None:
    # asked before MLflow is imported: a server that is down must cost seconds, not MLflow's retries
    if not uri.startswith(("http:", "https:")):
        return
    failures: list[Exception] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(_health(uri), timeout=_TIMEOUT_SECONDS):
                pass
        except urllib.error.HTTPError:
            # it answers, if only to ask for a password
            pass
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures.append(error)

    # the timeout above is one for each read, and a server may send a byte for each
    worker = threading.Thread(target=ask, name="limpet-mirror-health", daemon=True)
    worker.start()
    worker.join(2 * _TIMEOUT_SECONDS)
    why: object = f"it has not answered for {2 * _TIMEOUT_SECONDS} s" if worker.is_alive() else None
    if failures:
        why = getattr(failures[0], "reason", None) or failures[0]
    if why is not None:
        raise UnavailableError(
            f"The MLflow server {uri} can't be reached: {why}.", "start it, then: limpet ui --sync"
        )


def _health(uri: str) -> urllib.request.Request:
    """Return the question whether a server is there; a user in its address goes where urllib expects one."""
    parts = urllib.parse.urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    address = urllib.parse.urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))
    request = urllib.request.Request(address)
    if at:
        token = base64.b64encode(urllib.parse.unquote(user).encode("utf-8")).decode("ascii")
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    with (store.path / "mirror.lock").open("w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConflictError(
                        f"Another process has been writing the mirror of this home for {_LOCK_SECONDS} s.",
                        "wait for it, then type: limpet ui --sync",
                    ) from None
                time.sleep(0.2)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _QUIET}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    os.environ.update(_QUIET)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
