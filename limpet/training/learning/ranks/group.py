"""The processes that learn one task together: what they tell each other in every step.

The gradients are summed by a plain all-reduce after the last microbatch, and not by a wrapper around the model that
reduces while it goes back: so they are summed once a step however many microbatches it has, what a batch does not use
needs no search, and the model stays the one that the fast paths know. Everything is told in JSON and plain tensors.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from limpet import errors
from limpet.errors import LimpetError, TrainingError
from limpet.registry.formats.json_values import JsonObject
from limpet.training.learning.ranks.share import Share

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["ALONE", "PATIENCE", "RankLostError", "Ranks"]

PATIENCE = timedelta(days=1)
"""A process that has died is noticed at once, by its connection; one that validates for hours is waited for."""
_LOOK_SECONDS = 0.02
_REPORT_SECONDS = 2.0
_BUCKET = 1 << 24
"""So many numbers are summed at once: 64 MiB."""


class KeyValueStore(Protocol):
    """What is asked of torch's key-value store."""

    def set(self, key: str, value: str, /) -> None:
        """Keep a value."""

    def get(self, key: str, /) -> bytes:
        """Return a value, once it is there."""

    def check(self, keys: list[str], /) -> bool:
        """Tell whether there are values."""


class RankLostError(Exception):
    """Another process of the same training has ended; `Ranks.reason` says why."""


class Ranks:
    """The processes of one training, as one of them sees them.

    Args:
        rank: Which of them this is; 0 leads: it alone writes, speaks and validates.
        world: How many there are.
        store: Torch's key-value store; null for a process alone.
        ended: Says what became of a process that has ended, where this one has started it.
    """

    def __init__(
        self,
        rank: int = 0,
        world: int = 1,
        store: KeyValueStore | None = None,
        *,
        ended: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.rank, self.world = rank, world
        self.share = Share(rank, world) if world > 1 else None
        self._store, self._ended = store, ended
        self._lost = self._met = False

    @property
    def leads(self) -> bool:
        """Whether this process writes, speaks and validates."""
        return self.rank == 0

    # before a training

    def order(self, order: JsonObject | None) -> None:
        """Tell the others what is learned; null where they are not needed."""
        if self.world > 1:
            self._set("order", json.dumps(order))

    def read_order(self) -> JsonObject | None:
        """Return what the process that leads wants learned; null where it needs nobody."""
        order: JsonObject | None = json.loads(self._wait("order"))
        return order

    def meet(self, identity: str, device: torch.device) -> None:
        """Wait until every process is about to learn the same, and connect them.

        Args:
            identity: A digest of all that decides the result.
            device: What this process computes on.

        Raises:
            RankLostError: One of them has ended.
            TrainingError: Another one would learn something else, or on another type of device.
        """
        if self.world == 1:
            return
        self._set(f"ready/{self.rank}", json.dumps([identity, device.type]))
        if self.leads:
            for rank in range(1, self.world):
                other = json.loads(self._wait(f"ready/{rank}"))
                if other != [identity, device.type]:
                    raise TrainingError(
                        f"Process {rank} of {self.world} would learn something else ({_unlike(other, device)}); "
                        "nothing was registered.",
                        "start no more processes than there are GPUs, all on the same home",
                    )
            self._set("go", "1")
        self._wait("go")
        with self._noticing():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore("group", self._known_store),  # type: ignore[attr-defined,arg-type]
                rank=self.rank,
                world_size=self.world,
                timeout=PATIENCE,
            )
        self._met = True

    # in a training

    def begin(self, parameters: Sequence[Tensor]) -> None:
        """Give every process the values of the one that leads."""
        if self.world == 1:
            return
        with self._noticing(), torch.no_grad():
            for parameter in parameters:
                value = _exchanged(parameter.detach())
                dist.broadcast(value, 0)
                parameter.copy_(value)

    def sum_gradients(self, parameters: Sequence[Tensor], loss: float) -> float:
        """Sum the gradients over all processes in place; return the sum of their losses.

        Raises:
            RankLostError: A process has ended.
            TrainingError: Others have gradients of other parameters.
        """
        if self.world == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        numbers = float(sum(map(torch.Tensor.numel, gradients)))
        with self._noticing(), torch.no_grad():
            total, all_numbers = self._summed([loss, numbers])
            if all_numbers != numbers * self.world:
                raise TrainingError("The processes have gradients of different parameters; nothing was registered.")
            for bucket in _buckets(gradients):
                # the sum is made in float32, whatever dtype the gradients have
                flat = _exchanged(torch.cat([gradient.flatten().float() for gradient in bucket]))
                dist.all_reduce(flat)
                sizes = [gradient.numel() for gradient in bucket]
                for gradient, summed in zip(bucket, torch.split(flat, sizes), strict=True):
                    gradient.copy_(summed.view_as(gradient))
        return total

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """Return the seconds that the process that leads has counted, and whether any was asked to stop."""
        if self.world == 1:
            return seconds, stop
        with self._noticing():
            counted, stops = self._summed([seconds if self.leads else 0.0, float(stop)])
        return counted, stops > 0

    def from_leader(self, compute: Callable[[], JsonObject]) -> JsonObject:
        """Return what the process that leads computes; the others wait for it."""
        if self.world == 1:
            return compute()
        content = json.dumps(compute()).encode() if self.leads else b""
        with self._noticing():
            (size,) = self._summed([float(len(content))])
            told = torch.zeros(int(size), dtype=torch.uint8)
            if self.leads:
                told.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            dist.broadcast(told, 0)
        value: JsonObject = json.loads(bytes(told.tolist()))
        return value

    def sharing_dropout(self, model: nn.Module) -> AbstractContextManager[None]:
        """See `Share.sharing_dropout`."""
        return nullcontext() if self.share is None else self.share.sharing_dropout(model)

    def wait_for_all(self) -> None:
        """Wait until every process that has met the others has come here."""
        if self._met:
            with self._noticing():
                self._summed([0.0])

    # at its end

    def report(self, error: Exception) -> None:
        """Tell the process that leads what ended this one, let go of it, and wait until it has ended the training."""
        known = isinstance(error, LimpetError)
        told = {
            "type": type(error).__name__,
            "message": error.message if isinstance(error, LimpetError) else " ".join(str(error).split()),
            "hint": error.hint if isinstance(error, LimpetError) else "",
            "rank": self.rank,
            "known": known,
        }
        self._set("error", json.dumps(told))
        self.leave()
        # a launcher ends the others once one has ended, and the one that leads has the checkpoint to write
        self._wait("ended")

    def reason(self) -> LimpetError:
        """Return why a process was lost: what it has reported, or what the system says of it."""
        until = time.monotonic() + _REPORT_SECONDS
        while time.monotonic() < until:
            if self._known_store.check(["error"]):
                return _reported(json.loads(self._known_store.get("error")), self.world)
            if ended := self._ended():
                return TrainingError(f"{ended}.")
            time.sleep(_LOOK_SECONDS)
        return TrainingError(f"The connection to another of the {self.world} processes was lost: it has ended.")

    def leave(self) -> None:
        """Let go of the others; who waits for this process notices."""
        if self._met:
            self._met = False
            dist.destroy_process_group()

    def end(self) -> None:
        """Say that the training is over: nobody is needed any more."""
        if not self._known_store.check(["order"]):
            self.order(None)
        self._set("ended", "1")

    def outlive_launcher(self) -> None:
        """Let a SIGTERM pass once another process was lost: a launcher sends it, and the error is yet to be told."""

        def pass_or_end(number: int, frame: FrameType | None) -> None:
            if not self._lost:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGTERM, pass_or_end)

    # how

    @property
    def _known_store(self) -> KeyValueStore:
        if self._store is None:
            raise ValueError("a process alone has nobody to tell anything")
        return self._store

    def _set(self, key: str, value: str) -> None:
        with self._noticing():
            self._known_store.set(key, value)

    def _wait(self, key: str) -> bytes:
        with self._noticing():
            while not self._known_store.check([key]):
                if self._known_store.check(["ended"]):
                    # what was to be learned is known already, or the one that leads has ended
                    raise SystemExit(0)
                if self.leads and (self._known_store.check(["error"]) or self._ended()):
                    raise RuntimeError("a process has ended")
                time.sleep(_LOOK_SECONDS)
            value: bytes = self._known_store.get(key)
            return value

    def _summed(self, numbers: Sequence[float]) -> list[float]:
        summed = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(summed)
        values: list[float] = summed.tolist()
        return values

    def _noticing(self) -> _Noticing:
        return _Noticing(self)

    def lost(self) -> None:
        """Remember that a process has ended."""
        self._lost = True


class _Noticing:
    """A `with` block in which an error of torch means that another process has ended."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RuntimeError):
            self._ranks.lost()
            raise RankLostError(str(error)) from error


ALONE = Ranks()
"""A process that learns by itself."""


def _exchanged(tensor: Tensor) -> Tensor:
    """Return a tensor where processes can exchange it: on CUDA, or else in the processor's memory."""
    return tensor.contiguous() if tensor.device.type == "cuda" else tensor.cpu().contiguous()


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        bucket.append(gradient)
        if sum(map(torch.Tensor.numel, bucket)) >= _BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def _unlike(other: Sequence[str], device: torch.device) -> str:
    return "the home's data, the base or the settings differ" if other[1] == device.type else f"on {other[1]}"


def _reported(told: JsonObject, world: int) -> LimpetError:
    kind = getattr(errors, told["type"], None) if told["known"] else None
    if isinstance(kind, type) and issubclass(kind, LimpetError):
        error: LimpetError = kind(told["message"], told["hint"])
        return error
    return TrainingError(
        f"Process {told['rank']} of {world} ended with an unexpected error, {told['type']}: {told['message']}."
    )
