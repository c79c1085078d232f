"""A `limpet` that starts at once: a server that has everything imported forks a process for every call.

Importing torch, transformers and peft takes seconds, and the pages call `limpet` some sixty times. Each call is a
process of its own, with the caller's folder, environment, streams and exit code.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tests.docs.pages import ROOT

CLIENT = """\
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(call)
    answer = server.recv(1)
sys.exit(answer[0] if answer else 99)
"""


@contextmanager
def limpet_on_path(folder: Path) -> Iterator[Path]:
    """Put a script `limpet` into `folder`, and serve it until the block ends."""
    # the path of a socket may have no more than about a hundred characters
    with tempfile.TemporaryDirectory(prefix="limpet-") as short:
        address = f"{short}/socket"
        client, script = folder / "client.py", folder / "limpet"
        client.write_text(CLIENT.format(address=address), encoding="utf-8")
        # -ISs: a client that imports no more than it needs starts in a hundredth of a second
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -ISs "{client}" "$@"\n', encoding="utf-8")
        script.chmod(0o755)
        command = [sys.executable, "-m", __name__, address]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert server.stdout is not None
        try:
            assert server.stdout.readline() == b"ready\n"
            yield script
        finally:
            server.terminate()
            server.wait(10)
            server.stdout.close()


def _import_everything() -> None:
    from limpet.cli.terminal.quiet_libraries import silence

    silence()
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import scipy.special  # noqa: F401
    from transformers import AutoModel, AutoTokenizer  # noqa: F401
    from transformers.models.bert import modeling_bert  # noqa: F401

    import limpet.forgetting.stream.run  # noqa: F401
    import limpet.home  # noqa: F401
    import limpet.training.adoption.adopt  # noqa: F401
    from limpet.cli import COMMANDS, cli
    from limpet.forgetting.report.build import build_report  # noqa: F401

    for name in COMMANDS:
        assert cli.get_command(None, name)  # type: ignore[arg-type]


def _serve(address: str) -> NoReturn:
    _import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            call, _ = listener.accept()
            if os.fork() == 0:
                _answer(call)
            call.close()


def _answer(call: socket.socket) -> NoReturn:
    """In a child of the server: run one call in a child of its own, and send its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(call, 4, 3)
    content = b""
    while len(content) < int.from_bytes(size, "big"):
        content += call.recv(1 << 16)
    child = os.fork()
    if child == 0:
        _run(*json.loads(content), streams=streams)
    _, status = os.waitpid(child, 0)
    call.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    from limpet.cli import main

    sys.argv = ["limpet", *arguments]
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
