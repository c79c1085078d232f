"""Records what the package `adapters` computes, for the test that compares limpet's bottleneck with it.

It needs an environment of its own, as `adapters` pins an older transformers:
`pip install adapters==1.3.0 torch`, then `python tests/training/methods/record_adapters.py FOLDER`. Nothing of
limpet is imported. Each file of FOLDER has a tiny random model of one architecture, random adapters under the names
that limpet saves them by, and the last hidden states that the package computes with them, by placement.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

WIDTH, LAYERS = 8, 2
IDS = torch.tensor([[2, 7, 8, 15, 3, 11], [2, 9, 3, 5, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
_USUAL = {
    "vocab_size": 16,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 2 * WIDTH,
    "max_position_embeddings": 16,
}
_SIDES = {
    f"{side}_{key}": value
    for side in ("encoder", "decoder")
    for key, value in (("layers", LAYERS), ("attention_heads", 2), ("ffn_dim", 2 * WIDTH))
}
SIZES: dict[str, dict[str, Any]] = {
    "bert": _USUAL,
    "roberta": _USUAL,
    "electra": {**_USUAL, "embedding_size": WIDTH},
    "deberta-v2": _USUAL,
    "albert": {**_USUAL, "embedding_size": WIDTH},
    "distilbert": {
        "vocab_size": 16,
        "dim": WIDTH,
        "n_layers": LAYERS,
        "n_heads": 2,
        "hidden_dim": 2 * WIDTH,
        "max_position_embeddings": 16,
    },
    "gpt2": {"vocab_size": 16, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 2, "n_positions": 16},
    "llama": {**_USUAL, "num_key_value_heads": 1},
    "t5": {
        "vocab_size": 16,
        "d_model": WIDTH,
        "d_kv": WIDTH // 2,
        "d_ff": 2 * WIDTH,
        "num_layers": LAYERS,
        "num_heads": 2,
        "decoder_start_token_id": 0,
    },
    "bart": {"vocab_size": 16, "d_model": WIDTH, "max_position_embeddings": 16, **_SIDES},
}
# where the package keeps adapters, and what limpet's stand at: the last projection of each half of a block. Not
# ALBERT, where the package gives the adapter the block's input and takes attention's output for the residual
_BERT = {"attention.output": "attention.output.dense", "output": "output.dense"}
_BERTS = ("bert", "roberta", "electra", "deberta-v2")
PROJECTIONS: dict[str, dict[str, str]] = {
    **dict.fromkeys(_BERTS, _BERT),
    "distilbert": {"attention_adapters": "attention.out_lin", "output_adapters": "ffn.lin2"},
    "gpt2": {"attention_adapters": "attn.c_proj", "output_adapters": "mlp.c_proj"},
    "llama": {"attention_adapters": "self_attn.o_proj", "output_adapters": "mlp.down_proj"},
    "t5": {
        "layer.0": "layer.0.SelfAttention.o",
        "layer.1": "layer.1.DenseReluDense.wo",
        "layer.2": "layer.2.DenseReluDense.wo",
    },
    "bart": {"attention_adapters": "self_attn.out_proj", "output_adapters": "fc2"},
}
# the normalisation that takes Pfeiffer's. Not where blocks normalise first: there the package reads the sum after the
# residual, and limpet what the projection gives
LAST_NORMS = {
    **{kind: {"output": "output.LayerNorm"} for kind in _BERTS},
    "albert": {"output_adapters": "full_layer_layer_norm"},
    "distilbert": {"output_adapters": "output_layer_norm"},
    "bart": {"output_adapters": "final_layer_norm"},
}


def ours(places: dict[str, str], name: str) -> str:
    """Return limpet's name of a tensor of the package's."""
    place, part = name.split(".adapters.recorded.adapter_")
    for theirs, target in places.items():
        if place.endswith(f".{theirs}"):
            place = f"{place.removesuffix(theirs)}{target}"
            return f"base_model.model.{place}.bottleneck_{part.replace('down.0', 'down')}"
    raise KeyError(name)


def record(kind: str, folder: Path) -> None:
    """Write the file of one architecture."""
    import adapters

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **SIZES[kind])
    plain = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    content = {"input_ids": IDS, "attention_mask": MASK}
    content |= {f"base/{name}": tensor.clone() for name, tensor in plain.state_dict().items()}
    content["hidden/none"] = answer(plain)
    kinds = {"houlsby": (adapters.DoubleSeqBnConfig, PROJECTIONS), "pfeiffer": (adapters.SeqBnConfig, LAST_NORMS)}
    for placement, (made, places) in kinds.items():
        if kind not in places:
            continue
        model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
        model.load_state_dict(plain.state_dict())
        adapters.init(model)
        model.add_adapter("recorded", config=made(reduction_factor=4, non_linearity="gelu"))
        model.set_active_adapters("recorded")
        for name, parameter in model.named_parameters():
            if ".adapters.recorded." in name:
                torch.nn.init.normal_(parameter, std=0.5)
                content[f"{placement}/{ours(places[kind], name)}"] = parameter.detach().clone()
        content[f"hidden/{placement}"] = answer(model)
    metadata = {"kind": kind, "sizes": json.dumps(SIZES[kind], sort_keys=True), "adapters": version("adapters")}
    save_file({name: t.contiguous() for name, t in content.items()}, folder / f"{kind}.safetensors", metadata)


def answer(model: Any) -> torch.Tensor:
    """Return the last hidden states (2, 6, width)."""
    decoder = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        hidden: torch.Tensor = model(input_ids=IDS, attention_mask=MASK, **decoder).last_hidden_state
    return hidden


if __name__ == "__main__":
    for one in SIZES:
        record(one, Path(sys.argv[1]))
