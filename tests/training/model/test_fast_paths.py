"""Quicker ways to compute the same: the same numbers, the same gradients, and a base that is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limpet.errors import UsageError
from limpet.home import Home
from limpet.registry.records import evaluations
from limpet.training import methods
from limpet.training.base.precision import autocast
from limpet.training.learning.settings import TrainingSettings
from limpet.training.methods._low_rank import updated_linear
from limpet.training.model.fast_paths import FUSED_FROM, OPTIMIZATIONS, describe, fast_paths
from tests.tiny import KINDS, WORDS, tiny_base
from tests.training.methods.table import load_tiny

IDS = torch.tensor([[2, 11, 12, 13, 3, 14], [2, 15, 16, 3, 0, 0]])
MASK = (IDS != 0).long()


def attached(folder: Path, kind: str, method: str, settings: dict[str, Any] | None = None) -> nn.Module:
    """A method on a tiny model, its tensors drawn at random: some methods begin with zeros."""
    model = load_tiny(tiny_base(folder, kind))
    chosen = methods.get(method)
    module = chosen.attach(model, chosen.resolve(model, settings or {}))
    torch.manual_seed(1)
    for parameter in module.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.05)
    return module


def outputs(module: nn.Module) -> Tensor:
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    if module.config.is_encoder_decoder:  # type: ignore[union-attr]
        inputs["decoder_input_ids"] = IDS
    hidden: Tensor = module(**inputs).last_hidden_state
    return hidden.float()


def gradients(module: nn.Module) -> tuple[Tensor, list[Tensor]]:
    found = outputs(module)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    (found * MASK.unsqueeze(2)).square().sum().backward()  # type: ignore[no-untyped-call]
    wanted = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained]
    module.zero_grad(set_to_none=True)
    return found.detach(), wanted


def test_the_gradients_of_an_updated_layer_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    x, a, b = (torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in ((2, 3, 5), (2, 5), (4, 2)))
    weight, bias = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def layer(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return updated_linear(x, weight, bias, a=a, b=b, scale=0.7)

    assert torch.autograd.gradcheck(layer, (x, a, b))
    expected = x @ (weight + 0.7 * b @ a).t() + bias
    assert torch.allclose(layer(x, a, b), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gpt2"])
def test_quick_layers_give_what_the_plain_graph_gives(tmp_path: Path, kind: str) -> None:
    module = attached(tmp_path, kind, "lora")
    plain, expected = gradients(module)
    with fast_paths(methods.get("lora"), module, "float32"):
        quick, found = gradients(module)
        with torch.inference_mode():
            merged = outputs(module)
    assert torch.allclose(quick, plain, rtol=1e-5, atol=1e-5)
    assert torch.allclose(merged, plain, rtol=1e-5, atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    # and peft's own graph is back
    assert torch.equal(gradients(module)[0], plain)


def test_what_is_kept_for_answers_follows_the_training(tmp_path: Path) -> None:
    module = attached(tmp_path, "bert", "lora")
    with fast_paths(methods.get("lora"), module, "float32"):
        with torch.inference_mode():
            before = outputs(module)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.mul_(2)
        with torch.inference_mode():
            after = outputs(module)
    assert not torch.equal(before, after)
    with torch.inference_mode():
        assert torch.allclose(outputs(module), after, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{"dropout": 0.5}, {"dora": True}])
def test_layers_that_do_more_keep_their_own_graph(tmp_path: Path, settings: dict[str, Any]) -> None:
    module = attached(tmp_path, "bert", "lora", settings)
    with fast_paths(methods.get("lora"), module, "float32"):
        assert not any("forward" in vars(layer) for layer in module.modules())


@pytest.mark.parametrize("method", ["bottleneck", "ia3", "partial", "prefix"])
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_weights_that_are_cast_once_give_the_very_same_bits(tmp_path: Path, kind: str, method: str) -> None:
    # tiny models have two layers
    module = attached(tmp_path, kind, method, {"layers": 1} if method == "partial" else {})
    before = dict(module.named_parameters())
    with autocast("cpu", "bfloat16"):
        plain, expected = gradients(module)
        with fast_paths(methods.get(method), module, "bfloat16"):
            once, found = gradients(module)
            low = [p for p in module.parameters() if p.dtype == torch.bfloat16]
    assert low
    assert not any(parameter.requires_grad for parameter in low)
    assert torch.equal(once, plain)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    after = dict(module.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is parameter for name, parameter in before.items())


def test_the_weights_are_back_after_an_error(tmp_path: Path) -> None:
    module = attached(tmp_path, "bert", "lora")
    before = [id(parameter) for parameter in module.parameters()]
    with pytest.raises(KeyError), fast_paths(methods.get("lora"), module, "bfloat16"):
        raise KeyError
    assert [id(parameter) for parameter in module.parameters()] == before


def test_a_choice_is_left_out_by_its_name(tmp_path: Path) -> None:
    module = attached(tmp_path, "bert", "lora")
    with fast_paths(methods.get("lora"), module, "bfloat16", disable=tuple(OPTIMIZATIONS)):
        assert not any("forward" in vars(layer) for layer in module.modules())
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_what_was_left_out_is_part_of_the_version(home: Home) -> None:
    plain = home.train("place", TrainingSettings(epochs=1, disable=("quick-layers",)), monitor=False).version
    quick = home.train("place", TrainingSettings(epochs=1), monitor=False).version
    assert plain.config["training"]["without"] == ["quick-layers"]
    assert "without" not in quick.config["training"]


def test_an_unknown_optimization_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="no optimization 'magic' to disable") as refused:
        TrainingSettings(disable=("magic",))
    assert "quick-layers" in str(refused.value.hint)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_evaluation_records_the_dtype_that_it_was_computed_in(
    home: Home, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    version = home.train("place", TrainingSettings(epochs=1), monitor=False).version
    monkeypatch.setenv("LIMPET_EVALUATION_DTYPE", dtype)
    other = limpet_open(home)
    other.evaluate([version.reference])
    newest = evaluations.full(home.store, version.reference, version.reference)[0]
    assert newest.environment.dtype == dtype


def test_a_dtype_that_there_is_not_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_EVALUATION_DTYPE", "float8")
    with pytest.raises(UsageError, match="float8"):
        limpet_open(home).backbone()


def limpet_open(home: Home) -> Home:
    """The same home, opened anew."""
    import limpet

    return limpet.open(home.store.path)


def test_the_words_of_a_language_head_are_cast_once(tmp_path: Path) -> None:
    from limpet.training.base.lm_head import LanguageHead

    head = LanguageHead(torch.randn(len(WORDS), 8))
    hidden = torch.randn(3, 8)
    with torch.inference_mode(), autocast("cpu", "bfloat16"):
        first = head(hidden, torch.empty(0))
        kept = head._cast
        assert torch.equal(head(hidden, torch.empty(0)), first)
        assert head._cast is kept
    assert torch.equal(first, torch.nn.functional.linear(hidden.bfloat16(), head.weight.bfloat16()).float())


def test_what_was_chosen_is_said() -> None:
    lora, full = methods.get("lora"), methods.get("full")
    plain = {"dora": False, "dropout": 0.0}
    threads = f"{torch.get_num_threads()} thread"
    made = "quick-layers, fused-attention, fused-optimizer, token-budget"
    assert describe(lora, plain, "bfloat16").startswith(f"products in bfloat16, {threads}")
    assert describe(lora, plain, "bfloat16").endswith(f"cast-once, {made}")
    fewer = describe(lora, plain, "bfloat16", disable=("cast-once",))
    assert fewer.endswith(made) and "cast-once" not in fewer
    assert "cast-once" not in describe(lora, plain, "float32")
    assert "quick-layers" not in describe(full, {}, "bfloat16")
    assert "quick-layers" not in describe(lora, plain | {"dora": True}, "bfloat16")
    assert "quick-layers" not in describe(lora, plain | {"dropout": 0.1}, "bfloat16")


def test_words_cast_while_evaluating_can_be_learned_from_and_those_of_another_copy_are_cast_anew() -> None:
    from limpet.training.base.lm_head import LanguageHead

    head, hidden = LanguageHead(None), torch.randn(3, 8, requires_grad=True)
    for _ in range(3):
        # each is freed before the next is made, which may lie where it lay
        words = torch.randn(len(WORDS), 8)
        with torch.inference_mode(), autocast("cpu", "bfloat16"):
            head(hidden, words)
        with autocast("cpu", "bfloat16"):
            found = head(hidden, words)
        found.sum().backward()
        assert torch.equal(found, torch.nn.functional.linear(hidden.bfloat16(), words.bfloat16()).float())


LONG = torch.tensor([[2, *[11 + place % 15 for place in range(50)], 3], [2, *[25] * 20, 3, *[0] * 30]])


WORKING = json.loads(methods.TABLE.read_text(encoding="utf-8"))
CELLS = [
    (kind, method)
    for kind in KINDS
    for method in ("lora", "bottleneck", "prefix", "prompt", "p-tuning", "ia3", "full", "partial")
    # DeBERTa computes its attention in a way of its own
    if kind != "deberta-v2" and not WORKING[kind][method]
]


@pytest.mark.parametrize(("kind", "method"), CELLS)
def test_fused_attention_answers_what_plain_attention_does(tmp_path: Path, kind: str, method: str) -> None:
    chosen = methods.get(method)
    # as few virtual tokens as fit into a tiny model's positions beside the text
    few = {"virtual_tokens": 4} if "virtual_tokens" in methods.default_settings(chosen.settings) else {}
    module: Any = attached(tmp_path, kind, method, few)
    inputs = {"input_ids": LONG, "attention_mask": (LONG != 0).long()}
    if module.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = LONG
    answers, used = {}, set()
    with torch.inference_mode(), autocast("cpu", "bfloat16"):
        for disable in ((), ("fused-attention",)):
            with fast_paths(chosen, module, "bfloat16", disable=disable), seen_attention(module, used):
                answers[disable] = module(**inputs).last_hidden_state.float()
    assert used == {"sdpa", "eager"}
    assert module.config._attn_implementation == "eager"
    fused, plain = (answer[:, -LONG.shape[1] :][LONG != 0] for answer in answers.values())
    assert float((fused - plain).norm() / plain.norm()) < 0.02


@contextmanager
def seen_attention(module: Any, used: set[str]) -> Iterator[None]:
    """Note which implementation of attention the model's layers are told to take."""
    layers = next(one for one in module.modules() if isinstance(one, nn.ModuleList))

    def note(layer: nn.Module, *_: Any) -> None:
        used.add(module.config._attn_implementation)

    with layers[0].register_forward_pre_hook(note):
        yield


def test_attention_is_plain_where_gradients_are_computed_or_texts_are_short(tmp_path: Path) -> None:
    module: Any = attached(tmp_path, "bert", "lora")
    used: set[str] = set()
    with (
        fast_paths(methods.get("lora"), module, "bfloat16"),
        autocast("cpu", "bfloat16"),
        seen_attention(module, used),
    ):
        module(input_ids=LONG, attention_mask=(LONG != 0).long())
        with torch.no_grad():
            module(input_ids=LONG[:, : FUSED_FROM - 1], attention_mask=(LONG != 0).long()[:, : FUSED_FROM - 1])
        assert used == {"eager"}
        with torch.no_grad():
            module(input_ids=LONG[:, :FUSED_FROM], attention_mask=(LONG != 0).long()[:, :FUSED_FROM])
        assert used == {"eager", "sdpa"}
    used.clear()
    with fast_paths(methods.get("lora"), module, "float32"), torch.no_grad(), seen_attention(module, used):
        module(input_ids=LONG, attention_mask=(LONG != 0).long())
    assert used == {"eager"}


def test_inputs_that_several_layers_read_are_cast_once_and_never_kept_for_others(tmp_path: Path) -> None:
    from limpet.training.methods._low_rank import _SharedCast

    cast, x = _SharedCast(), torch.randn(3, 8)
    with autocast("cpu", "bfloat16"):
        low = cast(x)
        assert low.dtype == torch.bfloat16
        assert cast(x) is low
        x.mul_(2)
        assert torch.equal(cast(x), x.bfloat16())
        other = x.clone()
        assert cast(other) is not cast(x)
    assert cast(x).dtype == torch.float32


def test_shared_casts_leave_the_bits_of_losses_and_gradients_alone(tmp_path: Path) -> None:
    module = attached(tmp_path, "bert", "lora")
    with fast_paths(methods.get("lora"), module, "bfloat16"), autocast("cpu", "bfloat16"):
        shared, found = gradients(module)
        layers = [layer for layer in module.modules() if "forward" in vars(layer)]
        for layer in layers:
            quick: Any = vars(layer)["forward"]
            quick._cast = lambda x: x.detach().to(torch.bfloat16)
        alone, expected = gradients(module)
    assert layers
    assert torch.equal(shared, alone)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
