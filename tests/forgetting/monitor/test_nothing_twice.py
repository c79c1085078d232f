"""One training reads every split once, digests the whole base once afterwards, and does no work that nobody asks for.

Nothing is replaced: the interpreter tells of every call, and those at the seams are counted.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import pytest
import torch

from limpet.errors import IntegrityError
from limpet.forgetting.report import build
from limpet.home import Home
from limpet.registry import versions
from limpet.training import methods
from limpet.training.base import tensor_digests
from limpet.training.data import stored_splits
from limpet.training.learning.settings import TrainingSettings
from limpet.training.methods.lora import Lora

QUICK = TrainingSettings(epochs=1, batch_size=8, dtype="float32")


def rows(frame: FrameType) -> str:
    return f"read {frame.f_locals['digest']}"


def size(frame: FrameType) -> str:
    tensors = frame.f_locals["tensors"]
    return f"digest {sum(tensor.nbytes for tensor in tensors.values())}"


SEAMS: dict[CodeType, Callable[[FrameType], str]] = {
    stored_splits._read.__code__: rows,
    tensor_digests.digests_of.__code__: size,
    Lora.attach.__code__: lambda _: "attach",
    Lora.load.__code__: lambda _: "load",
    build.build_report.__code__: lambda _: "report",
}


@contextmanager
def counted() -> Iterator[Counter[str]]:
    counts: Counter[str] = Counter()

    def tell(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (name := SEAMS.get(frame.f_code)):
            counts[name(frame)] += 1

    threading.setprofile(tell)
    sys.setprofile(tell)
    try:
        yield counts
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def test_one_training_reads_each_split_once_and_digests_the_base_once_after_it(home: Home) -> None:
    tensors = tensor_digests.module_tensors(home.backbone().model)
    whole = sum(tensor.nbytes for tensor in tensors.values())
    with counted() as counts:
        home.train("place", QUICK)
    splits = home.task.show("place").splits
    assert len(splits) == 3
    assert {name: count for name, count in counts.items() if name.startswith("read ")} == {
        f"read {split.digest}": 1 for split in splits
    }
    assert counts[f"digest {whole}"] == 1
    # looked at after measuring, before it is registered and after the others were evaluated, and found untouched
    assert counts["digest 0"] == 3
    # to learn; to measure and to hold what is served against it; for the reference outputs
    assert (counts["attach"], counts["load"]) == (1, 2)
    assert counts["report"] == 0


def test_a_rule_asks_for_a_report(home: Home) -> None:
    home.train("place", QUICK, monitor=False)
    with counted() as counts:
        home.train("place", QUICK, max_forgetting=1.0)
    assert counts["report"] == 1


def test_splits_are_read_and_checked_again_by_the_next_command(home: Home) -> None:
    home.train("place", QUICK, monitor=False)
    with counted() as counts:
        home.evaluate(["place"])
    assert counts[f"read {home.task.show('place').split('evaluation').digest}"] == 1


def an_uncounted_write(home: Home) -> None:
    # torch does not count what is written through `.data`
    next(home.backbone().model.parameters()).data[0, 1] += 1


def a_counted_write(home: Home) -> None:
    with torch.no_grad():
        next(home.backbone().model.parameters()).view(-1)[1].add_(1)


@pytest.mark.parametrize("change", [an_uncounted_write, a_counted_write])
def test_a_base_that_a_method_changes_while_it_trains_is_noticed(
    home: Home, monkeypatch: pytest.MonkeyPatch, change: Callable[[Home], None]
) -> None:
    save = Lora.save

    def careless(self: Lora, *arguments: Any, **named: Any) -> None:
        change(home)
        save(self, *arguments, **named)

    monkeypatch.setattr(type(methods.get("lora")), "save", careless)
    with pytest.raises(IntegrityError, match="was changed in memory"):
        home.train("place", QUICK)
    assert not versions.current(home.store)


def test_a_base_that_a_method_changes_while_it_is_measured_is_noticed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Lora.load

    def careless(self: Lora, *arguments: Any, **named: Any) -> Any:
        a_counted_write(home)
        return load(self, *arguments, **named)

    monkeypatch.setattr(type(methods.get("lora")), "load", careless)
    with pytest.raises(IntegrityError, match="was changed in memory"):
        home.train("place", QUICK)
    assert not versions.current(home.store)
