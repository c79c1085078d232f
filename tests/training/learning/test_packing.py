"""Texts that share rows: a step has the gradients of texts in rows of their own, and no text sees another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limpet.errors import InterruptedRunError, UsageError
from limpet.home import Home
from limpet.training.batching.batches import evaluation_plan
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.packing import PackedTexts, packed_rows
from limpet.training.heads import Head
from limpet.training.heads.base import HeadConfig
from limpet.training.learning.learn import learn
from limpet.training.learning.objectives import TaskLoss, TrainingData
from limpet.training.learning.training_run import TrainingRun
from limpet.training.model.packing_trial import check_packing
from limpet.training.model.task_model import TaskModel
from tests import tiny
from tests.training.generation.test_generation import a_home
from tests.training.learning.test_learn import QUICK, StopAt, contents, staged
from tests.training.learning.test_loop_settings import difference
from tests.training.learning.test_objectives import a_model

BATCH = range(6)


def test_rows_are_filled_by_the_longest_texts_first() -> None:
    assert packed_rows([3, 9, 5, 2, 12, 5], [5, 4, 3, 2, 1, 0], 10) == [[4], [1], [2, 5], [0, 3]]


def test_a_part_has_as_many_tokens_and_texts_as_it_may_have() -> None:
    ids = [[7] * length for length in (9, 4, 17, 11, 6, 8)]
    packed = PackedTexts(Encoded(ids, evaluation_plan([len(row) for row in ids]), 0), 64)
    assert len(packed.parts(BATCH, None, None)) == 1
    for part in packed.parts(BATCH, 48, None):
        assert part["input_ids"].numel() <= 48
    by_count = packed.parts(BATCH, 48, 2)
    begun = [int((part["position_ids"] == 0).logical_and(part["attention_mask"] == 1).sum()) for part in by_count]
    assert sum(begun) == len(BATCH) and max(begun) == 2


def gradients(model: Any, data: TrainingData, *, max_tokens: int | None = None) -> list[Tensor]:
    objective = TaskLoss(data, model.head, "cpu", max_tokens_per_microbatch=max_tokens)
    for loss in objective.losses(model, BATCH):
        loss.backward()
    found = [p.grad.clone() for p in model.parameters() if p.requires_grad and p.grad is not None]
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("llama", "lora"),
        ("qwen2", "partial"),
        pytest.param("llama", "bottleneck", marks=pytest.mark.slow),
        pytest.param("gpt2", "full", marks=pytest.mark.slow),
    ],
)
def test_a_packed_step_has_the_gradients_of_the_texts_apart(tmp_path: Path, kind: str, method: str) -> None:
    model, encoded = a_model(a_home(tmp_path, kind, lively=True), "headlines", method)
    check_packing(model)
    packed = PackedTexts(encoded, 64)
    assert len(packed.rows(BATCH)) < len(BATCH)
    apart = gradients(model, encoded)
    assert len(apart) > 0
    for max_tokens in (None, 48):
        for ours, theirs in zip(gradients(model, packed, max_tokens=max_tokens), apart, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("attention", ("eager", "sdpa"))
def test_a_neighbour_leaves_no_trace(tmp_path: Path, attention: str) -> None:
    model, encoded = a_model(a_home(tmp_path, "llama", lively=True), "headlines", "lora")
    model.module.config._attn_implementation = attention
    packed = PackedTexts(encoded, 64)
    first, second = packed.rows(BATCH)[0][:2]
    sizes = [encoded.lengths[index] for index in (first, second)]

    def states(changed: int) -> Tensor:
        ids = [[7] * len(row) if at == changed else row for at, row in enumerate(encoded.ids)]
        batch = PackedTexts(replace(encoded, ids=ids), 64).batch(BATCH)
        with torch.no_grad():
            whole: Tensor = model.hidden(**batch).last_hidden_state
        return whole[0, : sum(sizes)]

    before = states(-1)
    for changed, kept in ((second, slice(0, sizes[0])), (first, slice(sizes[0], None))):
        after = states(changed)
        assert not torch.equal(after, before)
        torch.testing.assert_close(after[kept], before[kept], rtol=0, atol=1e-6)


def test_the_same_is_learned_in_as_many_steps_and_again_after_an_interruption(tmp_path: Path) -> None:
    home = a_home(tmp_path, "llama")
    settings = replace(QUICK, accumulate=2, checkpointing=True)
    plain = staged(home, "headlines", settings)
    run = TrainingRun(home.store, home.backbone(), home.task.show("headlines"), replace(settings, packing=True))
    packed = learn(run)
    assert packed.draft.config["training"]["packing"] is True
    assert "packing" not in plain.draft.config["training"]
    assert packed.draft.cost["optimiser_steps"] == plain.draft.cost["optimiser_steps"]
    assert packed.draft.cost["examples_seen"] == plain.draft.cost["examples_seen"]
    assert 0 < difference(plain, packed) < 1e-4
    whole = contents(packed)
    (run.folder / "staged").rename(tmp_path / "undisturbed")
    with pytest.raises(InterruptedRunError):
        learn(replace(run, progress=StopAt(3)))
    assert contents(learn(run, resume=True)) == whole


def test_texts_that_can_not_share_rows_are_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only answers that are written"):
        staged(home, settings=replace(QUICK, packing=True))
    decoder = a_home(tmp_path / "decoder", "llama")
    for method in ("prompt", "prefix", "p-tuning"):
        with pytest.raises(UsageError, match=f"'{method}' puts virtual tokens in front"):
            staged(decoder, "headlines", replace(QUICK, method=method, packing=True))
    pair = a_home(tmp_path / "pair", "t5")
    with pytest.raises(UsageError, match="stand on two sides"):
        staged(pair, "headlines", replace(QUICK, packing=True))


OWN_WORDS: dict[str, dict[str, object]] = {
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "Falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True},
    "RecurrentGemma": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "lru_width": 32,
        "attention_window_size": 16,
    },
}


@pytest.mark.parametrize("name", OWN_WORDS)
def test_a_base_that_lets_texts_in_a_row_see_each_other_is_found_by_trying(name: str) -> None:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tiny.WORDS), **OWN_WORDS[name])
    module = transformers.AutoModel.from_config(config, attn_implementation="eager")
    model = TaskModel(module, Head(HeadConfig("generation", "last", 32, 3)), frozenset())
    with pytest.raises(UsageError, match="Texts can't share a row"):
        check_packing(model)
