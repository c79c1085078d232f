"""What a launcher (torchrun, accelerate launch, `limpet train --processes`) says to the processes that it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from limpet.errors import UsageError

__all__ = ["Launched"]

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Launched:
    """A place among the processes of one training: torch's words for it, as variables of the environment.

    `rank` 0 leads, of `world` processes. `host` and `port` are those of torch's key-value store, which the launcher
    keeps where `kept_by_launcher`, and else the process of rank 0. `attempt` counts a launcher's restarts.
    """

    rank: int
    local_rank: int
    world: int
    host: str
    port: int
    attempt: str = "0"
    kept_by_launcher: bool = False

    @classmethod
    def from_environment(cls) -> Self | None:
        """Return what a launcher has said; null where there was none, or where it started no other process.

        Raises:
            UsageError: It is not what a launcher says.
        """
        said = os.environ
        if not all(said.get(name) for name in _NEEDED):
            return None
        try:
            launched = cls(
                rank=int(said["RANK"]),
                local_rank=int(said.get("LOCAL_RANK") or said["RANK"]),
                world=int(said["WORLD_SIZE"]),
                host=said["MASTER_ADDR"],
                port=int(said["MASTER_PORT"]),
                attempt=said.get("TORCHELASTIC_RESTART_COUNT", "0"),
                kept_by_launcher=said.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            )
        except ValueError as error:
            raise UsageError(
                f"RANK, WORLD_SIZE, LOCAL_RANK and MASTER_PORT are not all whole numbers: {error}.",
                "unset RANK WORLD_SIZE, or start with torchrun",
            ) from None
        return launched if launched.world > 1 else None

    def variables(self) -> dict[str, str]:
        """Return the same as variables, for a process to be started."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world),
            "MASTER_ADDR": self.host,
            "MASTER_PORT": str(self.port),
            # none of a launcher that this program was itself started by
            "TORCHELASTIC_RESTART_COUNT": self.attempt,
            "TORCHELASTIC_USE_AGENT_STORE": str(self.kept_by_launcher),
        }

    def take(self) -> None:
        """Take the variables away, and leave this process one GPU: libraries that look there act by themselves.

        accelerate would join the processes in its own way, and so would whatever is started from here.
        """
        for name in (*_NEEDED, "LOCAL_RANK", "TORCHELASTIC_USE_AGENT_STORE"):
            os.environ.pop(name, None)
        if self.local_rank:
            # the process that leads keeps the first of those it sees, and may have used it before
            os.environ[_GPUS] = _gpu_of(self.local_rank, os.environ)

    def silence(self) -> None:
        """Let this process say nothing: only the one that leads speaks."""
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(null, stream)
        os.close(null)


def _gpu_of(local_rank: int, environment: Mapping[str, str]) -> str:
    visible = [name for name in environment.get(_GPUS, "").split(",") if name]
    if _GPUS not in environment:
        return str(local_rank)
    # none is left: the process that leads says so
    return visible[local_rank] if local_rank < len(visible) else ""
