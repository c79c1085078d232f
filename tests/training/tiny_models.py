"""Real transformers models, small enough to be made in a test: random weights and a tokenizer of whole words."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(59)))
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def _save_tokenizer(folder: Path) -> None:
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


def save_tiny(folder: Path, kind: str = "bert", seed: int = 0, shard_size: str = "5GB") -> Path:
    """Save a tiny model of a kind (`bert`, `llama`, `gpt2`, `t5`) with its tokenizer, and return the folder."""
    torch.manual_seed(seed)
    size = {"vocab_size": len(WORDS)}
    model: transformers.PreTrainedModel
    if kind == "bert":
        model = transformers.BertModel(transformers.BertConfig(**size, **SIZES, max_position_embeddings=32))
    elif kind == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, **SIZES))
    elif kind == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**size, n_embd=8, n_layer=2, n_head=2))
    else:
        config = transformers.T5Config(**size, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
        model = transformers.T5ForConditionalGeneration(config)
    model.save_pretrained(folder, max_shard_size=shard_size)
    _save_tokenizer(folder)
    return folder
