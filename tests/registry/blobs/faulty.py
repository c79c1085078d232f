"""Operations on a disk that fails at the n-th call: a process of its own, in which `faulty.c` is preloaded."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from limpet.errors import LimpetError
from limpet.registry.database.engine import connect, database_url
from limpet.registry.database.migrate import upgrade
from limpet.registry.exchange import export_import
from limpet.registry.store import open_store
from tests.registry.operations import OPERATIONS

ROOT = Path(__file__).parents[3]
UNTYPED, MOST = 99, 400


@dataclass(frozen=True)
class Fault:
    """What fails: calls of a kind (`sync`, `write`, `name`), how many of them, with which errno."""

    kind: str
    number: int
    times: int


FAULTS = {
    "a sync fails": Fault("sync", errno.EIO, 1),
    "every sync fails": Fault("sync", errno.EIO, 1_000_000),
    "a write fails": Fault("write", errno.EIO, 1),
    "no room is left": Fault("write", errno.ENOSPC, 1_000_000),
    "a name can't be changed": Fault("name", errno.EIO, 1),
    "no name can be changed": Fault("name", errno.EROFS, 1_000_000),
}


@dataclass(frozen=True)
class Outcome:
    """How an action ended: the home it was done in, the fault, which call failed, and its exit code or 99."""

    home: Path
    fault: str
    n: int
    code: int


def _on_home(name: str, path: Path) -> None:
    store = open_store(path)
    try:
        OPERATIONS[name].run(store)
    finally:
        store.database.close()


def _export(path: Path) -> None:
    export_import.export(open_store(path), "news@1", beside(path, "folder"))


def _export_bundle(path: Path) -> None:
    export_import.export_bundle(open_store(path), "news@1", beside(path, "limpet"))


def _upgrade(path: Path) -> None:
    database = connect(database_url(None, path))
    try:
        upgrade(database)
    finally:
        database.close()


def beside(home: Path, ending: str) -> Path:
    """Where an action puts what leaves the home."""
    return home.parent / f"{home.name}-{ending}"


# everything that writes, done to the home in a folder, and able to be done again
ACTIONS: dict[str, Callable[[Path], object]] = {
    **{name: partial(_on_home, name) for name in OPERATIONS},
    "export": _export,
    "export a bundle": _export_bundle,
    "upgrade": _upgrade,
}


def build(folder: Path) -> Path:
    """Compile the library that fails."""
    library = folder / "faulty.so"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.fail("No C compiler was found; install one: apt-get install gcc libc6-dev")
    source = Path(__file__).with_name("faulty.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def sweep(library: Path, home: Path, work: Path, action: str, steps: Mapping[str, int]) -> list[Outcome]:
    """Do an action in copies of a home, each time with another call failing, from the first to the last.

    `steps` are the faults to try, each with the step from one failing call to the next.
    """
    command = [sys.executable, "-m", "tests.registry.blobs.faulty", home, work, action, json.dumps(steps)]
    environment = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)}
    # where no other folder takes a temporary file, Python tries the current one
    done = subprocess.run(list(map(str, command)), cwd=home.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return [Outcome(_copy(work, fault, n), fault, n, code) for fault, n, code in json.loads(done.stdout)]


def _main(home: Path, work: Path, action: str, steps: dict[str, int]) -> None:
    work.mkdir(parents=True)
    outcomes = []
    for fault, step in steps.items():
        for n in range(1, MOST, step):
            copy = _copy(work, fault, n)
            shutil.copytree(home, copy)
            status = _in_a_fork(copy, action, FAULTS[fault], n)
            if status < 0:
                shutil.rmtree(copy)
                break
            outcomes.append((fault, n, status))
        else:
            raise RuntimeError(f"{action} makes more than {MOST} calls of the kind {FAULTS[fault].kind}")
    print(json.dumps(outcomes))


def _copy(work: Path, fault: str, n: int) -> Path:
    return work / f"{fault.replace(' ', '-')}-{n}"


def _in_a_fork(home: Path, action: str, fault: Fault, n: int) -> int:
    """Return the exit code of an action whose n-th call fails, -1 if it has no n-th call."""
    process = os.fork()
    if process == 0:
        code, reached = _act(home, action, fault, n)
        # the memory of a fork is no place to tidy up
        os._exit(code if reached else 200)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return -1 if code == 200 else code


def _act(home: Path, action: str, fault: Fault, n: int) -> tuple[int, bool]:
    library = ctypes.CDLL(None)
    code = 0
    library.faulty_arm(fault.kind.encode(), ctypes.c_long(n), ctypes.c_long(fault.times), fault.number)
    try:
        ACTIONS[action](home)
    except LimpetError as error:
        code = error.exit_code
    except BaseException:
        code = UNTYPED
        library.faulty_arm(b"", ctypes.c_long(0), ctypes.c_long(0), 0)
        print(f"{action}, {fault}, {n}", file=sys.stderr)
        traceback.print_exc()
        return code, True
    return code, library.faulty_left() == 0


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
