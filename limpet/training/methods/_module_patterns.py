"""Where the parts of a block are, by architecture: no rule finds these modules by their kind alone.

A table by transformers' `model_type`. Each pattern has to match a module's whole name. In an encoder-decoder the
patterns hit both halves; cross-attention is left as it is, but for its keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["MODULE_PATTERNS", "ModulePatterns", "find_patterns"]


@dataclass(frozen=True)
class ModulePatterns:
    """Patterns of modules: the last projection of attention, that of the feed-forward block, keys and values.

    `last_norm` is the normalisation that takes the sum of the feed-forward block and its residual; null where blocks
    normalise first and end with the sum.
    """

    attention: str
    feed_forward: str
    keys_and_values: str
    last_norm: str | None = None


_BERT = ModulePatterns(
    r".*layer\.\d+\.attention\.output\.dense",
    r".*layer\.\d+\.output\.dense",
    r".*attention\.self\.(key|value)",
    r".*layer\.\d+\.output\.LayerNorm",
)
_LLAMA = ModulePatterns(
    r".*layers\.\d+\.self_attn\.o_proj", r".*layers\.\d+\.mlp\.down_proj", r".*self_attn\.(k_proj|v_proj)"
)
_OPT = ModulePatterns(r".*layers\.\d+\.self_attn\.out_proj", r".*layers\.\d+\.fc2", r".*_attn\.(k_proj|v_proj)")

MODULE_PATTERNS: dict[str, ModulePatterns] = {
    "bert": _BERT,
    "roberta": _BERT,
    "electra": _BERT,
    "deberta-v2": replace(_BERT, keys_and_values=r".*attention\.self\.(key_proj|value_proj)"),
    "distilbert": ModulePatterns(
        r".*layer\.\d+\.attention\.out_lin",
        r".*layer\.\d+\.ffn\.lin2",
        r".*attention\.(k_lin|v_lin)",
        r".*layer\.\d+\.output_layer_norm",
    ),
    # keys and values share a projection with the queries here and in GPT-2
    "modernbert": ModulePatterns(r".*layers\.\d+\.attn\.Wo", r".*layers\.\d+\.mlp\.Wo", r".*attn\.Wqkv"),
    # one layer is used again and again, and so is what is added to it
    "albert": ModulePatterns(
        r".*albert_layers\.\d+\.attention\.dense",
        r".*albert_layers\.\d+\.ffn_output",
        r".*attention\.(key|value)",
        r".*albert_layers\.\d+\.full_layer_layer_norm",
    ),
    "gpt2": ModulePatterns(r".*h\.\d+\.attn\.c_proj", r".*h\.\d+\.mlp\.c_proj", r".*attn\.c_attn"),
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "opt": _OPT,
    "t5": ModulePatterns(
        r".*layer\.\d+\.SelfAttention\.o", r".*layer\.\d+\.DenseReluDense\.wo", r".*Attention\.(k|v)"
    ),
    "bart": replace(_OPT, last_norm=r".*layers\.\d+\.final_layer_norm"),
}
"""Architecture to its patterns."""


def find_patterns(architecture: str) -> ModulePatterns:
    """Return the patterns of an architecture.

    Raises:
        ValueError: The table has no such architecture.
    """
    if architecture not in MODULE_PATTERNS:
        raise ValueError(f"places are known for {', '.join(MODULE_PATTERNS)}, not for {architecture}")
    return MODULE_PATTERNS[architecture]
