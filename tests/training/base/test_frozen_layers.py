"""Layers below the lowest that is trained: texts pass them once, and what is learned is what would have been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limpet.home import Home
from limpet.training import methods
from limpet.training.base.frozen_layers import KEPT, LowerStates
from limpet.training.batching.encoded import encode_texts
from limpet.training.heads import HeadConfig
from limpet.training.heads.classification import ClassificationHead
from limpet.training.learning.learn import learn
from limpet.training.learning.runs.run_folder import discard
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.frozen_layer_cache import add_frozen_states
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import SILENT
from tests.migrated import with_database
from tests.tiny import KINDS, tiny_base
from tests.training.methods.table import load_tiny
from tests.training.typed_data import SPECS, write_rows

TEXTS = ["wave tide the old reef", "cloud", "stone sand in the far cliff of iron", "the wing", "a storm and a star"]
COMPUTING_ALL = {"albert", "deberta-v2", "t5", "bart"}
"""Models whose layers can't be passed by: ALBERT has one alone, the others' read more than is returned below."""


def top_layers(folder: Path, kind: str) -> tuple[TaskModel, Any]:
    """The upper of a tiny model's two layers under training, a head on top, and the tokenizer."""
    from transformers import AutoTokenizer

    path = tiny_base(folder, kind)
    base, partial = load_tiny(path), methods.get("partial")
    torch.manual_seed(0)
    module = partial.attach(base, partial.resolve(base, {"layers": 1}))
    head = ClassificationHead(HeadConfig("classification", "mean", base.config.hidden_size, 3, 0.0))
    model = TaskModel(module, head, frozenset())
    assert isinstance(partial, methods.SupportsFrozenPrefix)
    model.lower = partial.lower_layers(module)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.pad_token = tokenizer.pad_token or "[PAD]"
    return model, tokenizer


def learned_from(model: TaskModel, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradients of what is trained."""
    logits = model(**batch)
    logits.square().sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return logits.detach(), found


@pytest.mark.parametrize("kind", sorted(set(KINDS) - COMPUTING_ALL))
def test_logits_and_gradients_are_those_of_all_layers(tmp_path: Path, kind: str) -> None:
    model, tokenizer = top_layers(tmp_path, kind)
    encoded = encode_texts(tokenizer, TEXTS, 16)
    [kept] = add_frozen_states(model, [encoded], "cpu", progress=SILENT)
    # another order and another padding than that of the plan
    batch, short = [3, 0, 2], kept.batch([3, 0, 2])
    assert short[KEPT].shape == (*short["input_ids"].shape, model.module.config.hidden_size)
    calls = counted(model.lower.frozen[0]) if model.lower else []
    logits, gradients = learned_from(model, short)
    assert calls == []
    wanted, theirs = learned_from(model, encoded.batch(batch))
    assert len(calls) == 1
    torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-6)
    assert gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6)


def counted(layer: nn.Module) -> list[None]:
    """A list that grows by one whenever the layer computes."""
    calls: list[None] = []
    plain: Callable[..., Any] = type(layer).forward

    class Counted(type(layer)):  # type: ignore[misc]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            calls.append(None)
            return plain(self, *arguments, **named)

    layer.__class__ = Counted
    return calls


@pytest.mark.parametrize("kind", sorted(COMPUTING_ALL - {"albert"}))
def test_where_a_layer_reads_more_than_the_layer_below_returns_all_of_them_compute(tmp_path: Path, kind: str) -> None:
    model, tokenizer = top_layers(tmp_path, kind)
    if model.lower is not None:
        encoded = encode_texts(tokenizer, TEXTS, 16)
        assert add_frozen_states(model, [encoded], "cpu", progress=SILENT) == [encoded]
    else:
        assert model.module.config.is_encoder_decoder


def test_where_no_layer_is_frozen_none_is_passed_by(tmp_path: Path) -> None:
    base, partial = load_tiny(tiny_base(tmp_path, "bert")), methods.get("partial")
    assert isinstance(partial, methods.SupportsFrozenPrefix)
    assert partial.lower_layers(partial.attach(base, partial.resolve(base, {"layers": 2}))) is None


def test_more_than_fits_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = top_layers(tmp_path, "bert")
    encoded = encode_texts(tokenizer, TEXTS, 16)
    size = sum(encoded.lengths) * model.module.config.hidden_size * 4
    monkeypatch.setattr(LowerStates, "most_bytes", 2 * size)
    assert all(KEPT in one.fields for one in add_frozen_states(model, [encoded, encoded], "cpu", progress=SILENT))
    monkeypatch.setattr(LowerStates, "most_bytes", 2 * size - 1)
    assert add_frozen_states(model, [encoded, encoded], "cpu", progress=SILENT) == [encoded, encoded]


@pytest.mark.parametrize("kind", sorted(SPECS))
def test_every_type_of_task_learns_what_it_would_without(home: Home, tmp_path: Path, kind: str) -> None:
    home.task.add("typed", write_rows(tmp_path / "rows.jsonl", kind), type=kind, max_length=16)
    same_with_and_without(home, "typed")


def test_a_task_that_writes_learns_what_it_would_without(tmp_path: Path) -> None:
    home = writing_home(tmp_path)
    same_with_and_without(home, "write")


def writing_home(tmp_path: Path) -> Home:
    """A home on a tiny decoder with a task that writes."""
    import json

    from limpet.home import init

    rows = [{"text": f"the wave {word}", "target": word} for word in ("tide", "salt", "reef", "boat", "shell")] * 12
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "llama", "llama")), mlflow="off")
    made.task.add("write", f"jsonl:{path}", type="generation", max_length=16, max_new_tokens=2)
    return made


def same_with_and_without(home: Home, task: str) -> None:
    """Learn a task both ways, and compare losses, validation scores and weights."""
    drafts, tensors = [], []
    for disable in ((), ("kept-layers",)):
        settings = TrainingSettings(
            "partial",
            {"layers": 1},
            epochs=2,
            batch_size=8,
            dtype="float32",
            disable=disable,
        )
        staged = learn(TrainingRun(home.store, home.backbone(), home.task.show(task), settings))
        drafts.append(staged.draft)
        from safetensors.torch import load_file

        tensors.append(load_file(staged.files["model.safetensors"]))
        discard(staged)
    ours, theirs = (draft.metrics["history"] for draft in drafts)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-4)
    assert tensors[0].keys() == tensors[1].keys()
    for name, tensor in tensors[0].items():
        torch.testing.assert_close(tensor, tensors[1][name], rtol=0, atol=1e-4)
