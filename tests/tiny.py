"""A tiny base and tiny tasks, made on the spot: real transformers models, real CSV files, seconds to learn."""

from __future__ import annotations

import csv
import itertools
import random
from pathlib import Path

TOPICS = {
    "sea": ["wave", "tide", "salt", "reef", "boat", "shell"],
    "sky": ["cloud", "wind", "star", "moon", "wing", "storm"],
    "rock": ["stone", "sand", "cliff", "ore", "iron", "clay"],
}
FILLER = ["the", "a", "of", "and", "in", "old", "new", "far", "near", "big"]


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLER, *itertools.chain.from_iterable(TOPICS.values()))


def tiny_base(folder: Path, kind: str = "bert", *, seed: int = 0, hidden: int = 32, shard_size: str = "5GB") -> Path:
    """Save a random two-layer model of a kind (`bert`, `llama`, `gpt2`, `t5`) and a tokenizer of whole words."""
    import torch
    import transformers

    sizes = {"hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2 * hidden}
    words = {"vocab_size": len(WORDS)}
    torch.manual_seed(seed)
    model: transformers.PreTrainedModel
    if kind == "bert":
        model = transformers.BertModel(transformers.BertConfig(**words, **sizes, max_position_embeddings=64))
    elif kind == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**words, **sizes))
    elif kind == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**words, n_embd=hidden, n_layer=2, n_head=2))
    else:
        config = transformers.T5Config(**words, d_model=hidden, d_kv=4, d_ff=2 * hidden, num_layers=2, num_heads=2)
        model = transformers.T5ForConditionalGeneration(config)
    model.save_pretrained(folder, max_shard_size=shard_size)
    _save_tokenizer(folder, framed=kind == "bert")
    return folder


def _save_tokenizer(folder: Path, framed: bool) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if framed:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def tiny_csv(path: Path, *, labels: tuple[str, ...] = ("sea", "sky", "rock"), rows: int = 90, seed: int = 0) -> Path:
    """Write `rows` sentences, each mostly of its label's words, with the columns text and label."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for index in range(rows):
            label = labels[index % len(labels)]
            words = [draw.choice(TOPICS[label]) for _ in range(5)] + [draw.choice(FILLER) for _ in range(5)]
            draw.shuffle(words)
            writer.writerow([" ".join(words), label])
    return path


def change_one_weight(folder: Path, amount: float = 1e-3) -> str:
    """Add `amount` to one number of one weight of the base in `folder`; return the tensor's name."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith("query.weight"))
    tensors[name].view(-1)[0] += amount
    save_file(tensors, path, metadata={"format": "pt"})
    return name
