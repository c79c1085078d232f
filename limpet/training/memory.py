"""Peak memory of a stretch of work."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["peak_memory", "reset_peak_memory"]


def reset_peak_memory() -> None:
    """Begin a new stretch: the peak counts from here (on Linux and on CUDA; elsewhere since the process began)."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        try:
            # 5 resets the kernel's high-water mark of the resident set, see proc(5)
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return


def peak_memory() -> int:
    """Return the peak in bytes: allocated on CUDA, resident set of the process on a CPU."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
