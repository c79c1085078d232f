"""The server of `tests.warm`: it imports what takes seconds once, and forks a process for every call.

One process has the libraries, and its child has limpet too; each listens at a socket of its own, which it inherits.
Neither has begun to compute, so that each has one thread, and beside it only that of pyarrow's allocator, which
expects to be forked.
Both end within a second of the test run that they serve.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import shutil
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_LIBRARIES = (
    "accelerate",
    "alembic.command",
    "jinja2",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "peft",
    "pyarrow.parquet",
    "rich.progress",
    "rich.table",
    "safetensors.torch",
    "scipy.special",
    "scipy.stats",
    "sqlalchemy.dialects.sqlite",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
)


def main(with_libraries: int, with_limpet: int, test_run: int) -> None:
    """Serve at two listening sockets, by their numbers, for as long as the process `test_run` lives."""
    # as the command line does before it imports anything; it imports no library itself
    from limpet.cli.terminal.quiet_libraries import silence

    silence()
    _forget("limpet")
    for name in _LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    if os.fork() == 0:
        _import_limpet()
        # what was imported is looked through by no collection of the children, and stays shared with them
        gc.collect()
        gc.freeze()
        _serve(socket.socket(fileno=with_limpet), test_run)
    _serve(socket.socket(fileno=with_libraries), test_run)


def _forget(package: str) -> None:
    """Let a package and its modules not have been imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


def _import_limpet() -> None:
    import limpet

    for module in pkgutil.walk_packages(limpet.__path__, "limpet."):
        # migrations are run by alembic, and the main module runs the command line
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _serve(listener: socket.socket, test_run: int) -> NoReturn:
    listener.settimeout(1)
    while _lives(test_run):
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        try:
            call, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            listener.close()
            call.settimeout(None)
            _answer(call)
        call.close()
    # the other one may have been here before
    shutil.rmtree(Path(listener.getsockname()).parent, ignore_errors=True)
    os._exit(0)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _answer(call: socket.socket) -> NoReturn:
    """In a child of the server: run one call in a child of its own, send its number, and when it ends its status."""
    size, streams, _, _ = socket.recv_fds(call, 4, 3)
    content = b""
    while len(content) < int.from_bytes(size, "big"):
        content += call.recv(1 << 16)
    child = os.fork()
    if child == 0:
        call.close()
        _run(**json.loads(content), streams=streams)
    for stream in streams:
        os.close(stream)
    with suppress(OSError):
        call.sendall(child.to_bytes(4, "big"))
    _, status = os.waitpid(child, 0)
    with suppress(OSError):
        call.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    os._exit(0)


def _run(
    arguments: list[str], folder: str, environment: dict[str, str], without: list[str], streams: list[int]
) -> NoReturn:
    """Be the process that was called for: `arguments` are those of Python, of which this knows -c, -m and a file."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        _python(arguments, without)
        code = 0
    except SystemExit as end:
        code = _exit_code(end.code)
    except BaseException:
        traceback.print_exc()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def _python(arguments: list[str], without: list[str]) -> None:
    sys.meta_path.insert(0, _Blocked(without))
    how, *rest = arguments
    if how == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(how).resolve().parent))
        runpy.run_path(how, run_name="__main__")


def _exit_code(code: Any) -> int:
    if code is None or isinstance(code, int):
        return (code or 0) % 256
    print(code, file=sys.stderr)
    return 1


class _Blocked:
    """Refuses to import some packages."""

    def __init__(self, packages: list[str]) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in self._packages:
            raise ImportError(f"this script must not need {name}")


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:]))
