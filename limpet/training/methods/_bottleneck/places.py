"""Where the sublayers of an architecture end: the projections whose output an adapter takes.

A table by transformers' `model_type`, because no rule finds these modules by their kind alone. Each pattern has to
match a module's whole name. In an encoder-decoder the adapters stand in both halves, after self-attention and
feed-forward; cross-attention stays as it is.
"""

from __future__ import annotations

__all__ = ["PLACES", "places"]

_BERT = (r".*layer\.\d+\.attention\.output\.dense", r".*layer\.\d+\.output\.dense")
_LLAMA = (r".*layers\.\d+\.self_attn\.o_proj", r".*layers\.\d+\.mlp\.down_proj")
_OPT = (r".*layers\.\d+\.self_attn\.out_proj", r".*layers\.\d+\.fc2")
_T5 = (r".*layer\.\d+\.SelfAttention\.o", r".*layer\.\d+\.DenseReluDense\.wo")

PLACES: dict[str, tuple[str, str]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "electra": _BERT,
    "deberta-v2": _BERT,
    "distilbert": (r".*layer\.\d+\.attention\.out_lin", r".*layer\.\d+\.ffn\.lin2"),
    "modernbert": (r".*layers\.\d+\.attn\.Wo", r".*layers\.\d+\.mlp\.Wo"),
    # one layer is used again and again, so its adapters are too
    "albert": (r".*albert_layers\.\d+\.attention\.dense", r".*albert_layers\.\d+\.ffn_output"),
    "gpt2": (r".*h\.\d+\.attn\.c_proj", r".*h\.\d+\.mlp\.c_proj"),
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "opt": _OPT,
    "t5": _T5,
    "bart": _OPT,
}
"""Architecture to the pattern of the attention's output projection and of the feed-forward block's."""


def places(architecture: str, placement: str) -> str:
    """Return the pattern of all projections that take an adapter.

    Raises:
        ValueError: The table has no such architecture.
    """
    if architecture not in PLACES:
        raise ValueError(f"no bottleneck places are known for {architecture}; they are for {', '.join(PLACES)}")
    attention, feed_forward = PLACES[architecture]
    return f"({attention})|({feed_forward})" if placement == "houlsby" else feed_forward
