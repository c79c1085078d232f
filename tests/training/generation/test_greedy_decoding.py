"""Greedy decoding: what transformers' own `generate` gives, row by row, whatever else is in the batch."""

from __future__ import annotations

import itertools
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from limpet.training import methods
from limpet.training.base.lm_head import LanguageHead, inner_model, split_head
from limpet.training.base.pretrained import load_pretrained
from limpet.training.batching.batches import MAX_TOKENS_PER_MICROBATCH, collate
from limpet.training.generation.greedy_decoding import greedy
from tests.tiny import enliven, tiny_base
from tests.training.base.test_lm_head import DECODERS, OPTIONS, PAIRS, whole_model

PROMPTS = [[7, 8, 15, 20, 11, 9], [2, 9, 30], [2, 17, 21, 5, 32, 6, 8, 9, 12, 27, 14], [12]]
NEW = 12


def lively(folder: Path, kind: str) -> tuple[Any, LanguageHead]:
    """A tiny model whose answers are not one word again and again: its weights are larger than at first."""
    enliven(tiny_base(folder, kind))
    model, head = split_head(load_pretrained(folder, "encoder-decoder" if kind in PAIRS else "decoder", **OPTIONS))
    assert head is not None
    return model, head


def ours(module: Any, head: LanguageHead, prompts: list[list[int]], stops: frozenset[int]) -> list[list[int]]:
    inputs = collate(prompts, 0)
    return greedy(
        module, head, inputs["input_ids"], attention_mask=inputs["attention_mask"], stops=stops, max_new_tokens=NEW
    )[0]


def theirs(whole: Any, prompt: list[int], stops: frozenset[int], pair: bool) -> list[int]:
    ids = torch.tensor([prompt])
    out = whole.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NEW,
        eos_token_id=sorted(stops) or None,
        pad_token_id=0,
    )[0].tolist()
    answer = out[1:] if pair else out[len(prompt) :]
    return [token for token in answer if token not in stops]


@pytest.mark.parametrize("kind", (*DECODERS, *PAIRS))
def test_every_row_of_a_batch_is_what_generate_gives_for_it_alone(tmp_path: Path, kind: str) -> None:
    model, head = lively(tmp_path / kind, kind)
    whole = whole_model(tmp_path / kind, kind)
    whole.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=getattr(whole.config, "decoder_start_token_id", None)
    )
    free = ours(model, head, PROMPTS, frozenset())
    assert {len(answer) for answer in free} == {NEW}
    assert len({token for answer in free for token in answer}) > 2
    # a word that comes in the middle of an answer ends it
    for stops in frozenset(), frozenset({free[0][NEW // 2]}):
        expected = [theirs(whole, prompt, stops, kind in PAIRS) for prompt in PROMPTS]
        assert ours(model, head, PROMPTS, stops) == expected
        assert [ours(model, head, [prompt], stops)[0] for prompt in PROMPTS] == expected


@pytest.mark.parametrize("kind", ("gpt2", "llama"))
def test_with_lora_it_is_what_generate_gives_with_peft(tmp_path: Path, kind: str) -> None:
    from peft import PeftModel

    model, head = lively(tmp_path / kind, kind)
    plain = ours(model, head, PROMPTS, frozenset())
    module = trained(model, "lora", {"r": 4})
    answers = ours(module, head, PROMPTS, frozenset())
    assert answers != plain
    (tmp_path / "adapter").mkdir()
    methods.get("lora").save(module, "a base", tmp_path / "adapter")
    methods.get("lora").detach(module)
    assert ours(model, head, PROMPTS, frozenset()) == plain
    whole = whole_model(tmp_path / kind, kind)
    inner = PeftModel.from_pretrained(whole.base_model, tmp_path / "adapter")
    assert whole.base_model is inner.get_base_model(), "peft has wrapped the layers in place"
    whole.generation_config = transformers.GenerationConfig()
    assert [theirs(whole, prompt, frozenset(), False) for prompt in PROMPTS] == answers


def trained(model: Any, name: str, settings: dict[str, Any]) -> Any:
    """A module of that method that says something else than the base does."""
    method = methods.get(name)
    torch.manual_seed(1)
    module = method.attach(model, method.resolve(model, settings))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def step_by_step(module: Any, head: LanguageHead, prompt: list[int]) -> list[int]:
    """Decode without a cache: everything is computed again for every word."""
    pair = module.config.is_encoder_decoder
    ids = list(prompt)
    written: list[int] = []
    for _ in range(NEW):
        inputs = {"input_ids": torch.tensor([prompt if pair else ids])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if pair:
            inputs["decoder_input_ids"] = torch.tensor([[module.config.decoder_start_token_id, *written]])
        with torch.inference_mode():
            hidden = module(**inputs).last_hidden_state[:, -1]
            token = int(head(hidden, inner_model(module).get_input_embeddings().weight).argmax())
        written.append(token)
        ids.append(token)
    return written


EVERYWHERE = ("prompt", "p-tuning", "bottleneck", "ia3", "full", "partial")


# a prefix needs a base that takes past keys and values
@pytest.mark.parametrize(
    ("name", "kind"),
    [*product(EVERYWHERE, ("gpt2", "llama", "opt", "t5")), *product(["prefix"], ("gpt2", "llama", "opt"))],
)
def test_virtual_tokens_count_and_no_method_needs_to_go_without_the_cache(
    tmp_path: Path, kind: str, name: str
) -> None:
    model, head = lively(tmp_path / kind, kind)
    method = methods.get(name)
    module = trained(
        model, name, {"virtual_tokens": 5} if "virtual_tokens" in methods.default_settings(method.settings) else {}
    )
    expected = [step_by_step(module, head, prompt) for prompt in PROMPTS]
    assert ours(module, head, PROMPTS, frozenset()) == expected
    method.detach(module)


def many_prompts(rows: int = 44) -> list[list[int]]:
    """Prompts that begin with ten same words and go on for 1 to 38 others: more than are read at once."""
    front, generator = [2, 9, 30, 11, 17, 5, 6, 21, 8, 12], torch.Generator().manual_seed(3)
    lengths = [1 + 7 * row % 38 for row in range(rows)]
    return [front + torch.randint(5, 33, (length,), generator=generator).tolist() for length in lengths]


@pytest.mark.parametrize("kind", DECODERS)
def test_many_rows_share_the_reading_of_what_all_begin_with_and_leave_when_they_have_ended(
    tmp_path: Path, kind: str
) -> None:
    model, head = lively(tmp_path / kind, kind)
    prompts = many_prompts()
    assert len(prompts) * max(map(len, prompts)) > MAX_TOKENS_PER_MICROBATCH
    free = ours(model, head, prompts, frozenset())
    alone = [ours(model, head, [prompt], frozenset())[0] for prompt in prompts]
    assert free == alone
    # words that come at the second, third... place of some answers
    stops = frozenset(free[row][1 + row % 4] for row in range(0, len(free), 8))
    ended = [list(itertools.takewhile(lambda token: token not in stops, answer)) for answer in alone]
    assert len({len(answer) for answer in ended}) > 1
    assert ours(model, head, prompts, stops) == ended


@pytest.mark.parametrize(("name", "kind"), [("prefix", "llama"), ("prompt", "opt"), ("p-tuning", "gpt2")])
def test_virtual_tokens_stand_before_what_many_rows_share(tmp_path: Path, name: str, kind: str) -> None:
    model, head = lively(tmp_path / kind, kind)
    module = trained(model, name, {"virtual_tokens": 3})
    prompts = many_prompts(12)
    assert ours(module, head, prompts, frozenset()) == [
        ours(module, head, [prompt], frozenset())[0] for prompt in prompts
    ]
    methods.get(name).detach(module)


def test_few_rows_are_read_as_they_are_bit_for_bit(tmp_path: Path) -> None:
    model, head = lively(tmp_path, "llama")
    inputs = collate(many_prompts(5), 0)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    first = greedy(model, head, ids, attention_mask=mask, stops=frozenset(), max_new_tokens=1)[1]
    with torch.inference_mode():
        hidden = model(**inputs, use_cache=True).last_hidden_state[torch.arange(5), mask.sum(dim=1) - 1]
        whole = head(hidden, model.get_input_embeddings().weight)
    assert torch.equal(first, whole)


def test_attention_is_what_it_was_after_writing(tmp_path: Path) -> None:
    model, head = lively(tmp_path, "llama")
    before = model.config._attn_implementation
    ours(model, head, many_prompts(9), frozenset())
    assert model.config._attn_implementation == before


def test_a_sliding_window_is_decoded_row_by_row(tmp_path: Path) -> None:
    config = transformers.MistralConfig(
        vocab_size=41, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=4, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.MistralForCausalLM(config).save_pretrained(tmp_path)
    model, head = split_head(load_pretrained(tmp_path, "decoder", **OPTIONS))
    assert head is not None
    assert ours(model, head, PROMPTS, frozenset()) == [step_by_step(model, head, prompt) for prompt in PROMPTS]
