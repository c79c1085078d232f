"""Who learns along: processes that are started here, or that a launcher has started, and how they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
import torch.distributed as dist

from limpet.errors import UsageError
from limpet.registry.settings import as_variables
from limpet.registry.store import Store
from limpet.training.learning.ranks.group import ALONE, PATIENCE, RankLostError, Ranks
from limpet.training.learning.ranks.launched import Launched
from limpet.training.progress import Progress

__all__ = ["company", "following"]

_HERE = "127.0.0.1"
_END_SECONDS = 10.0
_INTERFACE = "GLOO_SOCKET_IFNAME"


@contextmanager
def company(processes: int | None, store: Store, task: str, *, progress: Progress) -> Iterator[Ranks]:
    """Give the processes that learn a task, this one first, for the length of a `with` block.

    Args:
        processes: How many; null for as many as a launcher has started, which is this one alone without a launcher.
        store: The home.
        task: The task.
        progress: Is told where the machine has fewer cores than that.

    Raises:
        UsageError: It is none, there are fewer GPUs, or a launcher has started another number.
    """
    if processes is not None and processes < 1:
        raise UsageError(f"A task can't be learned by {processes} processes; it must be 1 or more.", "--processes 2")
    launched = Launched.from_environment()
    if launched is None and processes in (None, 1):
        yield ALONE
        return
    if launched is not None:
        _check_launched(launched, processes)
        with _led(_connect(launched), launched) as ranks:
            yield ranks
        return
    number = processes or 1
    _check_machine(number, progress)
    with _started(number, store, task) as ranks:
        yield ranks


@contextmanager
def following(launched: Launched) -> Iterator[Ranks]:
    """Give the processes of a training to one that does not lead; what ends it is told to the one that does.

    Raises:
        SystemExit: The training has ended before its end, or an error was told.
    """
    ranks = None
    try:
        ranks = _connect(launched)
        yield ranks
        ranks.leave()
    except (KeyboardInterrupt, RankLostError):
        # whoever leads says why
        sys.exit(1)
    except Exception as error:
        with suppress(RankLostError):
            if ranks is not None:
                ranks.report(error)
        sys.exit(getattr(error, "exit_code", 1))


def _connect(launched: Launched, listener: socket.socket | None = None, ended: _Children | None = None) -> Ranks:
    launched.take()
    keeps = launched.rank == 0 and not launched.kept_by_launcher
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            launched.host,
            launched.port,
            launched.world,
            keeps,
            PATIENCE,
            wait_for_workers=False,
            master_listen_fd=None if listener is None else listener.detach(),
        )
    except RuntimeError as error:
        raise UsageError(
            f"The processes can't find each other at {launched.host}:{launched.port}: {error}", "limpet train --help"
        ) from error
    named = dist.PrefixStore(f"limpet/{launched.attempt}", store)  # type: ignore[attr-defined]
    return Ranks(launched.rank, launched.world, named, ended=(ended or _Children()).ended)


@contextmanager
def _led(ranks: Ranks, launched: Launched) -> Iterator[Ranks]:
    """Lead processes that a launcher has started, which ends them too."""
    if launched.kept_by_launcher and threading.current_thread() is threading.main_thread():
        ranks.outlive_launcher()
    try:
        yield ranks
    finally:
        with suppress(RankLostError):
            ranks.end()
        ranks.leave()


@contextmanager
def _started(number: int, store: Store, task: str) -> Iterator[Ranks]:
    """Start all processes but this one, on this machine, with a share of its cores each; they end with the block."""
    listener = socket.create_server((_HERE, 0))
    launched = Launched(0, 0, number, _HERE, listener.getsockname()[1])
    interface = os.environ.get(_INTERFACE)
    # they are all here: nothing listens where others could reach it
    os.environ[_INTERFACE] = interface or ("lo" if sys.platform == "linux" else "lo0")
    threads = torch.get_num_threads()
    children = _Children()
    ranks = _connect(launched, listener, children)
    try:
        if not os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(max(1, threads // number))
        children.start(launched, _environment(store), task)
        yield ranks
    finally:
        ranks.end()
        ranks.leave()
        children.end()
        torch.set_num_threads(threads)
        if interface is None:
            del os.environ[_INTERFACE]


def _environment(store: Store) -> dict[str, str]:
    """Return the variables of a process to start: the home with its settings, and threads."""
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return os.environ | as_variables(store.path, store.settings) | threads


@dataclass
class _Children:
    """The processes that were started here."""

    processes: tuple[subprocess.Popen[bytes], ...] = ()

    def start(self, leader: Launched, environment: Mapping[str, str], task: str) -> None:
        """Start one for each place but the first."""
        for rank in range(1, leader.world):
            place = Launched(rank, rank, leader.world, leader.host, leader.port)
            process = subprocess.Popen(
                # -P: what lies in the current folder is never taken for a library
                [sys.executable, "-P", "-m", "limpet", "train", task],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**environment, **place.variables()},
                # Ctrl-C is for the process that leads: it tells the others
                start_new_session=True,
            )
            self.processes = (*self.processes, process)

    def ended(self) -> str | None:
        """Say what became of the first that has ended."""
        for rank, process in enumerate(self.processes, start=1):
            if (code := process.poll()) is not None:
                what = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return f"Process {rank} of {len(self.processes) + 1} {what}"
        return None

    def end(self) -> None:
        """Wait a little for all of them, and kill those that are left."""
        for process in self.processes:
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _check_launched(launched: Launched, processes: int | None) -> None:
    if launched.rank != 0:
        raise UsageError(
            f"This is process {launched.rank} of {launched.world}, and only the first one can lead a training.",
            "torchrun --nproc-per-node N -m limpet train TASK, or train(..., processes=N) in one process",
        )
    if processes not in (None, launched.world):
        raise UsageError(
            f"The launcher has started {launched.world} processes, and {processes} were asked for.",
            "leave out --processes",
        )


def _check_machine(processes: int, progress: Progress) -> None:
    if processes < 1:
        raise UsageError(f"The processes can't be {processes}.", "it must be 1 or more")
    gpus = torch.cuda.device_count()
    if gpus and processes > gpus:
        raise UsageError(f"{processes} processes need a GPU each, and there are {gpus}.", f"--processes {gpus}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not gpus and processes > cores:
        progress.note(f"{processes} processes share {cores} cores, which is slower than --processes {cores}")
