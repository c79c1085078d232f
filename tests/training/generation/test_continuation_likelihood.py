"""Likelihoods of continuations: those of the whole model over the whole sequence, with and without the cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch.nn.functional import log_softmax

from limpet.training.base.lm_head import split_head
from limpet.training.base.pretrained import load_pretrained
from limpet.training.batching.batches import collate
from limpet.training.generation.continuation_likelihood import Continuations
from tests.training.base.test_lm_head import DECODERS, OPTIONS, whole_model
from tests.training.generation.test_greedy_decoding import lively

BEGINNING = [2, 7, 9, 30, 5, 6, 21]
TEXTS = [[7, 8, 15, 20, 11, 9], [9, 30], [17, 21, 5, 32, 6, 8, 9, 12, 27, 14], [12]]
WORDS = [[5], [16, 17], [20, 21, 22]]
TOLERANCE = 1e-4
"""The largest difference of a log-likelihood that reading the beginning once makes."""


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("beginning", (BEGINNING, []), ids=("with demonstrations", "with none"))
def test_a_score_is_the_sum_over_all_tokens_of_the_continuation(
    tmp_path: Path, kind: str, beginning: list[int]
) -> None:
    model, head = lively(tmp_path / kind, kind)
    whole = whole_model(tmp_path / kind, kind)
    inputs = collate(TEXTS, 0)
    cached = Continuations(model, head, beginning, continuations=WORDS)
    once = cached.scores(**inputs)
    plain = Continuations(model, head, beginning, continuations=WORDS, reuse=False).scores(**inputs)
    expected = torch.zeros(len(TEXTS), len(WORDS))
    for row, text in enumerate(TEXTS):
        for column, word in enumerate(WORDS):
            sequence = [*beginning, *text, *word]
            with torch.inference_mode():
                found = log_softmax(whole(torch.tensor([sequence])).logits[0].float(), dim=-1)
            for at in range(len(sequence) - len(word), len(sequence)):
                expected[row, column] += found[at - 1, sequence[at]]
    torch.testing.assert_close(plain, expected, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(once, expected, rtol=0, atol=TOLERANCE)
    assert expected.std() > 100 * TOLERANCE
    # what one batch reads after the beginning must not stay for the next
    assert torch.equal(cached.scores(**inputs), once)


def test_a_base_whose_cache_forgets_is_read_as_a_whole(tmp_path: Path) -> None:
    config = transformers.MistralConfig(
        vocab_size=41, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=4, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    transformers.MistralForCausalLM(config).save_pretrained(tmp_path)
    model, head = split_head(load_pretrained(tmp_path, "decoder", **OPTIONS))
    assert head is not None
    inputs = collate(TEXTS, 0)
    plain = Continuations(model, head, BEGINNING, continuations=WORDS, reuse=False).scores(**inputs)
    assert torch.equal(Continuations(model, head, BEGINNING, continuations=WORDS).scores(**inputs), plain)
