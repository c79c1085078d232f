"""Peak memory of one stretch of work, told apart from what the process did before.

On CUDA it is what torch has allocated. On a CPU it is the resident set of the process, so the interpreter, the
libraries and the base are in it; what the stretch added to what was there when it began stands beside it.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["MemoryMark", "PeakMemory", "begin", "peak"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
# the kernel counts a thread's pages in small lots: a mark just set back may stand a little above what is in use
_SLACK = 4 * 2**20


@dataclass(frozen=True)
class MemoryMark:
    """Where a stretch began: bytes in use then (null where no system says), and the most there had been by then."""

    in_use: int | None
    highest: int


@dataclass(frozen=True)
class PeakMemory:
    """The peak of a stretch in bytes, and what of it was not in use yet when the stretch began (null if unknown)."""

    total: int
    added: int | None


def begin() -> MemoryMark:
    """Begin a stretch: give back what earlier work has freed, and let the peak count from here.

    Where the system does not let its mark be set back, the stretch begins under that of earlier work.
    """
    import torch

    _first_step()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return MemoryMark(torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated())
    _trim()
    _set_back()
    return MemoryMark(*_resident())


def peak(mark: MemoryMark) -> PeakMemory | None:
    """Return the peak since `mark`; null where it hides under a mark of earlier work that could not be set back."""
    import torch

    total = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _resident()[1]
    set_back = mark.in_use is not None and mark.highest <= mark.in_use + _SLACK
    # a mark that rose was raised by this stretch, whether or not it had been set back
    if not set_back and total <= mark.highest:
        return None
    return PeakMemory(total, None if mark.in_use is None else max(0, total - mark.in_use))


@cache
def _first_step() -> None:
    """Take a step with a single number: whoever trains first would else be charged with what libraries load then."""
    import accelerate  # noqa: F401
    import peft  # noqa: F401
    import torch

    number = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([number])
    number.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _trim() -> None:
    """Let glibc return freed memory to the system: it would count as used, and what comes next would hide in it."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _set_back() -> None:
    """Set the kernel's high-water mark of the resident set to what is resident now; see proc(5)."""
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return


def _resident() -> tuple[int | None, int]:
    """Return the resident set of the process in bytes: now, where the system says, and at its highest."""
    if _STATUS.exists():
        lines = (line.partition(":") for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines())
        sizes = {name: int(value.split()[0]) * 1024 for name, _, value in lines if name in ("VmRSS", "VmHWM")}
        if "VmHWM" in sizes:
            return sizes.get("VmRSS"), sizes["VmHWM"]
    import resource

    # in bytes where there is no /proc
    return None, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
