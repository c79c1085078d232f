"""Processes that start at once: a server that has everything imported forks one for every call.

Importing torch, transformers and peft takes seconds of a processor, and the tests start processes by the hundred.
Each of these is a process of its own all the same, with its folder, environment, streams, signals and exit code. What
a process does while it starts is tested by processes that start cold.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
_CLIENT = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = dict(arguments=[*{first!r}, *sys.argv[1:]], folder=os.getcwd(), environment=dict(os.environ))
    content = json.dumps(call | dict(without={without!r})).encode()
    socket.send_fds(server, [len(content).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(content)
    server.recv(4)
    answer = server.recv(4)
sys.exit(int.from_bytes(answer, "big", signed=True) % 256 if answer else 99)
"""


class Process:
    """A process that the server has forked; it is used as one of `subprocess.Popen`."""

    def __init__(self, call: socket.socket, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self._call, self.stdout, self.stderr = call, stdout, stderr
        self.returncode: int | None = None
        self.pid = int.from_bytes(call.recv(4), "big")
        assert self.pid, "the server has ended"

    def poll(self) -> int | None:
        """Return the exit code, or minus the number of the signal that ended it; None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return all that it writes, and wait for its end."""
        written = {"stdout": "", "stderr": ""}

        def read(name: str, stream: IO[str]) -> None:
            written[name] = stream.read()

        streams = {"stdout": self.stdout, "stderr": self.stderr}
        readers = [threading.Thread(target=read, args=item) for item in streams.items() if item[1]]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        self.close()
        return written["stdout"], written["stderr"]

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        self._call.close()
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._call.settimeout(timeout)
            try:
                answer = self._call.recv(4)
            except (TimeoutError, BlockingIOError):
                return None
            assert answer, "the server has ended"
            self.returncode = int.from_bytes(answer, "big", signed=True)
        return self.returncode


@dataclass(frozen=True)
class Warm:
    """Starts processes at a server's two sockets, `libraries` and `limpet` in `folder`."""

    folder: Path

    def limpet(
        self,
        *words: object,
        env: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> Process:
        """Start `limpet WORDS`; its streams are pipes, or files by their numbers."""
        arguments = ["-m", "limpet", *(str(word) for word in words)]
        return self._start(self.folder / "limpet", arguments, env, (stdout, stderr))

    def python(self, *arguments: object, env: Mapping[str, str] | None = None) -> str:
        """Run Python where the libraries are imported and limpet is not, insist on success; return what it prints."""
        process = self.start(*arguments, env=env)
        printed, said = process.communicate()
        assert process.returncode == 0, said
        return printed

    def start(self, *arguments: object, env: Mapping[str, str] | None = None) -> Process:
        """Start Python where the libraries are imported and limpet is not; its streams are pipes."""
        typed = [str(argument) for argument in arguments]
        return self._start(self.folder / "libraries", typed, env, (subprocess.PIPE, subprocess.PIPE))

    def script(self, path: Path, tier: str, first: Sequence[str] = (), without: Sequence[str] = ()) -> Path:
        """Write an executable that calls the server as Python with the arguments `first` and its own."""
        source = _CLIENT.format(address=str(self.folder / tier), first=list(first), without=list(without))
        client = path.with_suffix(".py")
        client.write_text(source, encoding="utf-8")
        # -ISs: a client that imports no more than it needs starts in a hundredth of a second
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -ISs "{client}" "$@"\n', encoding="utf-8")
        path.chmod(0o755)
        return path

    def _start(
        self, address: Path, arguments: list[str], env: Mapping[str, str] | None, streams: tuple[int, int]
    ) -> Process:
        environment = dict(os.environ if env is None else env)
        call = {"arguments": arguments, "folder": str(Path.cwd()), "environment": environment, "without": []}
        content = json.dumps(call).encode()
        theirs, ours = [os.open(os.devnull, os.O_RDONLY)], []
        for stream in streams:
            if stream == subprocess.PIPE:
                reading, writing = os.pipe()
                ours.append(os.fdopen(reading))
                theirs.append(writing)
            else:
                ours.append(None)
                theirs.append(os.dup(stream))
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(address))
        socket.send_fds(server, [len(content).to_bytes(4, "big")], theirs)
        server.sendall(content)
        for number in theirs:
            os.close(number)
        return Process(server, *ours)


def warm_server(shared: Path, test_run: int) -> Warm:
    """Return the server of a test run, whose workers share it by the folder `shared`; the first starts it."""
    with (shared / "warm-server").open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        folder = file.read()
        if not folder:
            folder = _start_server(test_run)
            file.write(folder)
    return Warm(Path(folder))


def _start_server(test_run: int) -> str:
    # the path of a socket may have no more than about a hundred characters
    folder = tempfile.mkdtemp(prefix="limpet-")
    listeners = []
    for name in ("libraries", "limpet"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{folder}/{name}")
        listener.listen(64)
        listeners.append(listener)
    numbers = [listener.fileno() for listener in listeners]
    command = [sys.executable, "-m", "tests.warm_server", *map(str, (*numbers, test_run))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=numbers, stdin=subprocess.DEVNULL)
    for listener in listeners:
        listener.close()
    return folder
