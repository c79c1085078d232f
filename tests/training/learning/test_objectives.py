"""What a step minimises: a batch in microbatches has the loss and the gradients of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limpet.home import init
from limpet.training import methods
from limpet.training.batching.examples import Example
from limpet.training.data.stored_splits import read_split
from limpet.training.learning.objectives import TaskLoss
from limpet.training.learning.settings import TrainingSettings
from limpet.training.model.head_files import build_head
from limpet.training.model.task_model import TaskModel, base_modules
from tests.migrated import with_database
from tests.tiny import tiny_base
from tests.training.generation.test_generation import a_home
from tests.training.typed_data import SPECS, write_rows

SIZES = (5, 9, 2, 7, 3, 10)


def a_model(home: Any, name: str, method: str) -> tuple[Any, Any]:
    """A task's model by a method that has learned nothing, and some of its training examples, cut to `SIZES`."""
    backbone, task = home.backbone(), home.task.show(name)
    train = read_split(home.store, task, "train")
    chosen = methods.get(method)
    torch.manual_seed(0)
    module = chosen.attach(backbone.model, chosen.resolve(backbone.model, {}))
    head = build_head(task, backbone.record, train)
    head.bind_base(backbone)
    model = TaskModel(module, head, base_modules(backbone)).eval()
    examples = [cut(example, size) for example, size in zip(train, SIZES, strict=False)]
    return model, model.encode(backbone.tokenizer, examples, 24, learning=True)


def cut(example: Example, size: int) -> Example:
    """Leave so many words of a text, and of a target that is as long or is a text."""
    if not isinstance(example.text, str):
        return Example(example.text[:size], example.target[:size])
    target = " ".join([example.target] * size) if isinstance(example.target, str) else example.target
    return Example(" ".join(example.text.split()[:size]), target)


def step(model: Any, encoded: Any, max_tokens: int | None) -> tuple[float, int, list[Tensor]]:
    """The loss of a step, in how many microbatches it came, and the gradients."""
    losses = []
    objective = TaskLoss(encoded, model.head, "cpu", max_tokens_per_microbatch=max_tokens)
    for loss in objective.losses(model, range(len(SIZES))):
        loss.backward()
        losses.append(float(loss.detach()))
    found = [p.grad.clone() for p in model.parameters() if p.requires_grad and p.grad is not None]
    model.zero_grad(set_to_none=True)
    return sum(losses), len(losses), found


def hold_equal(model: Any, encoded: Any) -> None:
    whole, one, gradients = step(model, encoded, None)
    loss, many, in_parts = step(model, encoded, 48)
    assert (one, many > 1) == (1, True)
    assert loss == pytest.approx(whole, rel=1e-5)
    assert len(gradients) == len(in_parts) > 0
    for ours, theirs in zip(in_parts, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", SPECS)
def test_a_batch_in_parts_has_the_gradients_of_the_whole(kind: str, tmp_path: Path) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base")), mlflow="off")
    home.task.add("some", write_rows(tmp_path / "rows.jsonl", kind), type=kind)
    model, encoded = a_model(home, "some", "full")
    hold_equal(model, encoded)


def test_a_batch_of_answers_to_write_is_weighed_by_their_tokens(tmp_path: Path) -> None:
    home = a_home(tmp_path, "llama")
    model, encoded = a_model(home, "headlines", "lora")
    assert len({len(row) for row in encoded.fields["targets"].rows}) > 1
    hold_equal(model, encoded)


def test_a_step_beyond_the_budget_needs_less_memory_at_once_and_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "base")), mlflow="off")
    home.task.add("some", write_rows(tmp_path / "rows.jsonl", "classification"))
    seen: list[int] = []
    forward = TaskModel.forward

    def counted(self: Any, other: int | None = None, **batch: Tensor) -> Tensor:
        if self.training:
            seen.append(batch["input_ids"].numel())
        return forward(self, other, **batch)

    monkeypatch.setattr(TaskModel, "forward", counted)
    monkeypatch.setattr("limpet.training.batching.batches.MAX_TOKENS_PER_MICROBATCH", 64)
    widest = []
    for disable in ((), ("token-budget",)):
        seen.clear()
        settings = TrainingSettings(epochs=1, batch_size=16, disable=disable)
        home.train("some", settings, monitor=False)
        widest.append(max(seen))
    assert widest[0] <= 64 < widest[1]
