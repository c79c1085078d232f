"""How much memory there is for a process that begins now."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["memory_here"]

_GROUP = Path("/sys/fs/cgroup")


def memory_here() -> int:
    """Return the bytes that a new process may take: of the accelerator, else of the machine or of this container."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return min([int(psutil.virtual_memory().available), *_of_container()])


def _of_container() -> list[int]:
    """Return what a control group leaves, version 2; nothing where there is none, or it has no limit."""
    try:
        limit = (_GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        figures = dict(line.split() for line in (_GROUP / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return []
    # pages of files that nobody has read lately are given back when memory is asked for
    return [] if limit == "max" else [int(limit) - used + int(figures.get("inactive_file", 0))]
