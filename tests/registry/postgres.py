"""A real PostgreSQL server, which can go away and come back."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Server", "postgres_server"]


@dataclass(frozen=True)
class Server:
    """A server on a unix socket in a folder."""

    folder: Path
    binaries: Path

    @property
    def url(self) -> str:
        """The URL of its database `postgres`."""
        return f"postgresql+psycopg://postgres@/postgres?host={self.folder}"

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped since."""
        return (self.folder / "data" / "postmaster.pid").exists()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off -c max_connections=60"
        self._control("-l", self.folder / "log", "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, whoever is connected."""
        self._control("-m", "immediate", "stop")

    def _control(self, *words: str | Path) -> None:
        _run(self.binaries / "pg_ctl", "-D", self.folder / "data", "-w", *words)


@contextmanager
def postgres_server() -> Iterator[Server]:
    """Make a server and start it; it is stopped and removed in the end."""
    server = Server(Path(tempfile.mkdtemp(prefix="limpet-postgres-")), _binaries())
    if os.geteuid() == 0:
        shutil.chown(server.folder, "postgres", "postgres")
    data = server.folder / "data"
    try:
        _run(server.binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            if server.runs:
                server.stop()
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


def _binaries() -> Path:
    if found := shutil.which("initdb"):
        return Path(found).parent
    # Debian keeps them out of PATH, one folder a release
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.fail("PostgreSQL's initdb and pg_ctl were not found; install them: apt-get install postgresql")
    return folders[-1]


def _run(*command: str | Path) -> None:
    # PostgreSQL refuses to run as root
    account = "postgres" if os.geteuid() == 0 else None
    groups = [] if account else None
    done = subprocess.run(
        [*map(str, command)],
        user=account,
        group=account,
        extra_groups=groups,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
