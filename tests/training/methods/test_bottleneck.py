"""Bottleneck adapters: equal to plain torch at the places of the papers, near identity at first, in peft's format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from limpet.errors import UsageError
from limpet.home import Home
from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.learning.settings import TrainingSettings
from tests.tiny import KINDS, tiny_base
from tests.warm import Warm

BOTTLENECK = methods.get("bottleneck")
IDS = torch.tensor([[2, 7, 8, 15, 3, 11], [2, 9, 3, 0, 0, 0]])
MASK = (IDS != 0).long()
TEXTS = ["old reef of salt and wave", "a cliff"]


# where a sublayer's last projection is in the first layer, read off transformers' modeling files
PLACES = {
    "bert": ("encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense"),
    "roberta": ("encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense"),
    "electra": ("encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense"),
    "deberta-v2": ("encoder.layer.0.attention.output.dense", "encoder.layer.0.output.dense"),
    "distilbert": ("transformer.layer.0.attention.out_lin", "transformer.layer.0.ffn.lin2"),
    "modernbert": ("layers.0.attn.Wo", "layers.0.mlp.Wo"),
    "albert": tuple(
        f"encoder.albert_layer_groups.0.albert_layers.0.{name}" for name in ("attention.dense", "ffn_output")
    ),
    "gpt2": ("h.0.attn.c_proj", "h.0.mlp.c_proj"),
    "llama": ("layers.0.self_attn.o_proj", "layers.0.mlp.down_proj"),
    "qwen2": ("layers.0.self_attn.o_proj", "layers.0.mlp.down_proj"),
    "opt": ("decoder.layers.0.self_attn.out_proj", "decoder.layers.0.fc2"),
    "t5": ("encoder.block.0.layer.0.SelfAttention.o", "encoder.block.0.layer.1.DenseReluDense.wo"),
    "bart": ("encoder.layers.0.self_attn.out_proj", "encoder.layers.0.fc2"),
}
# the normalisation after the first layer's feed-forward block, where layers end with one
LAST_NORMS = {
    **dict.fromkeys(("bert", "roberta", "electra", "deberta-v2"), "encoder.layer.0.output.LayerNorm"),
    "distilbert": "transformer.layer.0.output_layer_norm",
    "albert": "encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm",
    "bart": "encoder.layers.0.final_layer_norm",
}


def answer(model: nn.Module, kind: str) -> Tensor:
    decoder = {"decoder_input_ids": IDS} if kind in ("t5", "bart") else {}
    with torch.no_grad():
        hidden: Tensor = model(input_ids=IDS, attention_mask=MASK, **decoder).last_hidden_state
    return hidden


def load_model(folder: Path) -> nn.Module:
    from transformers import AutoModel

    model: nn.Module = AutoModel.from_pretrained(folder, attn_implementation="eager")
    return model.eval().requires_grad_(False)


def hook_adapters(model: nn.Module, folder: Path, activation: str) -> int:
    """Add up(act(down(h))) where the saved tensors say, with nothing of peft or limpet.

    A projection's output h takes it itself; where h is what a normalisation gives, it is added to its input.
    """
    functions = {"gelu": nn.GELU(), "relu": nn.ReLU(), "swish": nn.SiLU()}
    tensors = {
        name.removeprefix("base_model.model."): t
        for name, t in load_file(folder / "adapter_model.safetensors").items()
    }
    places = {name.split(".bottleneck_")[0] for name in tensors}
    for place in places:
        down, down_bias, up, up_bias = (
            tensors[f"{place}.bottleneck_{side}.{part}"] for side in ("down", "up") for part in ("weight", "bias")
        )

        def adapt(
            layer: nn.Module,
            inputs: tuple[Tensor, ...],
            output: Tensor,
            w: tuple[Tensor, ...] = (down, down_bias, up, up_bias),
        ) -> Tensor:
            added = functions[activation](output @ w[0].T + w[1]) @ w[2].T + w[3]
            if isinstance(layer, nn.LayerNorm):
                normalised: Tensor = layer.forward(inputs[0] + added)
                return normalised
            return output + added

        model.get_submodule(place).register_forward_hook(adapt)
    return len(places)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_plain_torch_computes_from_the_saved_tensors(tmp_path: Path, kind: str) -> None:
    folder = tiny_base(tmp_path / kind, kind)
    for placement, activation in ("houlsby", "gelu"), ("pfeiffer", "relu"), ("houlsby", "swish"):
        model = load_model(folder)
        before, plain = module_digest(model), answer(model, kind)
        config = BOTTLENECK.resolve(model, {"placement": placement, "activation": activation, "size": "4"})
        module = BOTTLENECK.attach(model, config)
        assert torch.equal(answer(module, kind), plain), "it does not begin as the identity"
        torch.manual_seed(1)
        for parameter in module.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.5)
        ours = answer(module, kind)
        saved = tmp_path / f"{placement}-{activation}"
        saved.mkdir()
        BOTTLENECK.save(module, "a base", saved)
        BOTTLENECK.detach(module)
        assert module_digest(model) == before
        count = hook_adapters(model, saved, activation)
        # two layers; ALBERT shares one between them, an encoder-decoder has them twice
        layers = {"albert": 1, "t5": 4, "bart": 4}.get(kind, 2)
        assert count == (2 * layers if placement == "houlsby" else layers)
        saved_at = {name.split(".bottleneck_")[0] for name in load_file(saved / "adapter_model.safetensors")}
        wanted = PLACES[kind] if placement == "houlsby" else (LAST_NORMS.get(kind, PLACES[kind][1]),)
        assert {f"base_model.model.{name}" for name in wanted} <= saved_at
        torch.testing.assert_close(ours, answer(model, kind), rtol=0, atol=1e-5)
        assert not torch.allclose(ours, plain, atol=1e-2)


def test_a_trained_version_gives_the_logits_of_plain_torch(home: Home, tmp_path: Path) -> None:
    settings = TrainingSettings("bottleneck", epochs=8, batch_size=8, learning_rate=5e-3, dtype="float32")
    version = home.train("place", settings).version
    assert version.metrics["accuracy"] > 0.8
    folder = home.adapter.export("place@1", tmp_path / "out")
    model = load_model(tmp_path / "base")
    assert hook_adapters(model, folder, "gelu") == 4
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tmp_path / "base")(TEXTS, padding=True, return_tensors="pt")
    head, mask = load_file(folder / "head.safetensors"), tokens["attention_mask"]
    with torch.no_grad():
        hidden = model(input_ids=tokens["input_ids"], attention_mask=mask).last_hidden_state
    mean = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
    ours = torch.tensor([one.logits for one in home.predict("place", TEXTS)])
    torch.testing.assert_close(ours, mean @ head["weight"].T + head["bias"], rtol=0, atol=1e-5)
    # 4 places, 32 features, 32 / 16 = 2 wide, both biases; and the head
    assert version.cost["trainable_parameters"] == 4 * (2 * 32 * 2 + 2 + 32) + 32 * 3 + 3


PLAIN = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModel
base = AutoModel.from_pretrained(sys.argv[1])
try:
    PeftModel.from_pretrained(base, sys.argv[2])
except Exception as error:
    print(json.dumps(repr(error)))
import limpet.training.methods._bottleneck
model = PeftModel.from_pretrained(base, sys.argv[2]).eval()
with torch.no_grad():
    print(json.dumps(model(input_ids=torch.tensor([[2, 7, 8, 3]])).last_hidden_state.sum(-1)[0].tolist()))
"""


def test_peft_reads_an_export_once_the_method_is_registered(home: Home, tmp_path: Path, warm: Warm) -> None:
    home.train("place", TrainingSettings("bottleneck", epochs=2, dtype="float32"))
    folder = home.adapter.export("place@1", tmp_path / "out")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["reduction_factor"], config["placement"]) == ("BOTTLENECK", 16.0, "houlsby")
    printed = warm.python("-c", PLAIN, tmp_path / "base", folder)
    refused, states = map(json.loads, printed.splitlines())
    assert "BOTTLENECK" in refused
    model = load_model(tmp_path / "base")
    hook_adapters(model, folder, "gelu")
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([[2, 7, 8, 3]])).last_hidden_state.sum(-1)[0]
    torch.testing.assert_close(torch.tensor(states), expected, rtol=0, atol=1e-5)


def test_registering_with_peft_again_changes_nothing() -> None:
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils import PeftType

    from limpet.training.methods._bottleneck import BottleneckConfig, BottleneckModel
    from limpet.training.methods._bottleneck._register import register

    members = list(PeftType)
    register(BottleneckConfig, BottleneckModel)
    assert list(PeftType) == members
    assert members.count(PeftType("BOTTLENECK")) == 1
    assert PeftType.BOTTLENECK == "BOTTLENECK"
    assert PEFT_TYPE_TO_TUNER_MAPPING[PeftType("BOTTLENECK")] is BottleneckModel


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"placement": "everywhere"}, "must be one of houlsby, pfeiffer, not 'everywhere'"),
        ({"activation": "tanh"}, "must be one of gelu, relu, swish"),
        ({"size": "0"}, "'size' of method 'bottleneck' must be at least 1"),
        ({"size": "small"}, "must be int"),
        ({"reduction_factor": "-2"}, "reduction_factor must be a finite number above 0"),
        ({"reduction_factor": "nan"}, "reduction_factor must be a finite number above 0"),
        ({"reduction_facto": "8"}, "Did you mean reduction_factor"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(home: Home, settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BOTTLENECK.resolve(home.backbone().model, settings)


def test_the_projections_keep_their_weights_when_the_adapter_is_merged_by_mistake(home: Home) -> None:
    model = home.backbone().model
    before = module_digest(model)
    module = BOTTLENECK.attach(model, BOTTLENECK.resolve(model, {}))
    with pytest.raises(NotImplementedError, match="activation"):
        module.merge_and_unload()
    BOTTLENECK.detach(module)
    assert module_digest(model) == before
