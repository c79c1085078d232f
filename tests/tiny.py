"""A tiny base and tiny tasks, made on the spot: real transformers models, real CSV files, seconds to learn."""

from __future__ import annotations

import csv
import itertools
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

TOPICS = {
    "sea": ["wave", "tide", "salt", "reef", "boat", "shell"],
    "sky": ["cloud", "wind", "star", "moon", "wing", "storm"],
    "rock": ["stone", "sand", "cliff", "ore", "iron", "clay"],
}
FILLER = ["the", "a", "of", "and", "in", "old", "new", "far", "near", "big"]


WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLER, *itertools.chain.from_iterable(TOPICS.values()))


KINDS = (
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "deberta-v2",
    "modernbert",
    "albert",
    "gpt2",
    "llama",
    "qwen2",
    "opt",
    "t5",
    "bart",
)
"""Architectures of tiny bases, as transformers calls them."""
_FRAMED = {"bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert", "albert", "bart"}
_NAMES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "deberta-v2": "DebertaV2",
    "modernbert": "ModernBert",
    "albert": "Albert",
    "gpt2": "GPT2",
    "llama": "Llama",
    "qwen2": "Qwen2",
    "opt": "OPT",
    "t5": "T5",
    "bart": "Bart",
}
# saved with the head that they are published with; AutoModel leaves it away
_HEADS = {
    "gpt2": "LMHeadModel",
    "llama": "ForCausalLM",
    "qwen2": "ForCausalLM",
    "opt": "ForCausalLM",
    "t5": "ForConditionalGeneration",
    "bart": "ForConditionalGeneration",
}


def tiny_base(
    folder: Path,
    kind: str = "bert",
    *,
    seed: int = 0,
    hidden: int = 32,
    shard_size: str = "5GB",
    positions: int | None = None,
) -> Path:
    """Save a random two-layer model of one of `KINDS` and a tokenizer of whole words; most have 64 positions."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = tiny_config(kind, hidden=hidden, positions=positions)
    model: transformers.PreTrainedModel = getattr(transformers, f"{_NAMES[kind]}{_HEADS.get(kind, 'Model')}")(config)
    model.save_pretrained(folder, max_shard_size=shard_size)
    _save_tokenizer(folder, framed=kind in _FRAMED)
    return folder


def tiny_config(kind: str, *, hidden: int = 32, positions: int | None = None) -> PretrainedConfig:
    """Return the configuration of a tiny base of one of `KINDS`; see `tiny_base`."""
    import transformers

    sizes = _sizes(kind, hidden) | ({"max_position_embeddings": positions} if positions else {})
    config: PretrainedConfig = getattr(transformers, f"{_NAMES[kind]}Config")(**sizes)
    return config


def _sizes(kind: str, hidden: int) -> dict[str, object]:
    """The configuration of two narrow layers with two heads; every architecture has its own words for them."""
    words = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    usual = {"hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2 * hidden}
    places = {"max_position_embeddings": 64}
    if kind == "distilbert":
        return {**words, **places, "dim": hidden, "n_layers": 2, "n_heads": 2, "hidden_dim": 2 * hidden}
    if kind == "electra":
        return {**words, **usual, **places, "embedding_size": hidden // 2}
    if kind == "albert":
        return {**words, **usual, **places, "embedding_size": hidden // 2}
    if kind == "deberta-v2":
        relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
        return {**words, **usual, **places, **relative, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
    if kind == "modernbert":
        return {**words, **usual, **places, "cls_token_id": 2, "sep_token_id": 3, "local_attention": 16}
    if kind == "gpt2":
        return {**words, "n_embd": hidden, "n_layer": 2, "n_head": 2, "n_positions": 64}
    if kind == "opt":
        return {**words, **places, **usual, "ffn_dim": 2 * hidden, "word_embed_proj_dim": hidden}
    if kind == "t5":
        start = {"decoder_start_token_id": 0, "feed_forward_proj": "relu"}
        return {
            **words,
            **start,
            "d_model": hidden,
            "d_kv": hidden // 2,
            "d_ff": 2 * hidden,
            "num_layers": 2,
            "num_heads": 2,
        }
    if kind == "bart":
        sides = {
            f"{side}_{key}": value
            for side in ("encoder", "decoder")
            for key, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 2 * hidden))
        }
        return {**words, **places, **sides, "d_model": hidden, "decoder_start_token_id": 3}
    if kind in ("llama", "qwen2"):
        # Qwen2's tokenizer adds a word of its own
        own = {"vocab_size": len(WORDS) + 1} if kind == "qwen2" else {}
        return {**words, **usual, **places, **own, "num_key_value_heads": 1}
    return {**words, **usual, **places}


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


def enliven(folder: Path) -> Path:
    """Make the weight matrices of a base larger, so that it says one thing here and another there."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {name: tensor * 10 if tensor.dim() == 2 else tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


def change_one_weight(folder: Path, amount: float = 1e-3) -> str:
    """Add `amount` to one number of one weight of the base in `folder`; return the tensor's name."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.endswith("query.weight"))
    tensors[name].view(-1)[0] += amount
    save_file(tensors, path, metadata={"format": "pt"})
    return name
