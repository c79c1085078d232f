"""Which methods work on a base in few bits, found by trying every method on tiny models in nf4 and int8.

A method works there when it learns, takes itself off and comes back from its files as on any base, and answers as it
does on the weights that the bits mean. `python -m tests.training.methods.quantised` writes the table that limpet
ships; it needs bitsandbytes.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limpet.errors import LimpetError
from limpet.training import methods
from limpet.training.base.holding.quantised import QuantisedLinear
from limpet.training.base.pretrained import load_held
from limpet.training.model.method_compatibility import INPUTS, try_method
from tests.tiny import enliven, tiny_base

__all__ = ["as_text", "find", "written_out"]

KINDS = {"bert": "encoder", "llama": "decoder"}
WORDS = ("nf4", "int8")
_OTHERWISE = "it answers otherwise than on the weights that the bits mean"


def find() -> dict[str, str]:
    """Return for every method why it does not work on a quantised base; an empty reason where it does.

    A method is tried on the kinds of models that it works on where they are not quantised.
    """
    whole = json.loads(methods.TABLE.read_text(encoding="utf-8"))
    tried = {kind: [methods.get(name) for name in methods.names() if not whole[kind][name]] for kind in KINDS}
    found = {
        name: "" if any(not whole[kind][name] for kind in KINDS) else whole["llama"][name] for name in whole["llama"]
    }
    with tempfile.TemporaryDirectory() as name:
        for kind, family in KINDS.items():
            folder = enliven(tiny_base(Path(name) / kind, kind, hidden=64))
            for word in WORDS:
                held = load_held(folder, family, recipe={"quantize": word}, attn_implementation="eager")[0].model
                model = getattr(held, held.base_model_prefix, held).requires_grad_(False)
                for method in tried[kind]:
                    found[method.name] = found[method.name] or _obstacle(model, method)
    return found


def written_out(model: nn.Module) -> nn.Module:
    """Return the same model with every weight as it is written out."""
    plain = copy.deepcopy(model)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, QuantisedLinear):
            linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            linear.weight = nn.Parameter(layer.written_out(torch.float32), requires_grad=False)
            if layer.bias is not None:
                linear.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
            owner, _, attribute = name.rpartition(".")
            setattr(plain.get_submodule(owner), attribute, linear)
    return plain


def as_text(table: Mapping[str, str]) -> str:
    """The table as the file has it."""
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


def _obstacle(model: Any, method: methods.Method) -> str:
    with tempfile.TemporaryDirectory() as folder:
        if reason := try_method(model, method, Path(folder)).reason:
            return reason
    try:
        own, plain = (_answer(either, method) for either in (copy.deepcopy(model), written_out(model)))
    except (LimpetError, RuntimeError, TypeError, ValueError) as error:
        return str(error).splitlines()[0]
    near = torch.allclose(own, plain, atol=1e-5 * float(plain.abs().max()))
    return "" if near else _OTHERWISE


def _answer(model: Any, method: methods.Method) -> torch.Tensor:
    """What a method answers whose trained tensors are drawn at random, so that none of them is without effect."""
    if isinstance(method, methods.TrainingFree):
        return method.attempt(model, INPUTS).float()
    torch.manual_seed(0)
    module = method.attach(model, method.resolve(model, method.example))
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(module.named_parameters()):
        if parameter.requires_grad:
            parameter.data.normal_(std=0.1, generator=generator)
    output: torch.Tensor = module.eval()(**INPUTS).last_hidden_state
    return output.detach().float()


if __name__ == "__main__":
    methods.QUANTISED.write_text(as_text(find()), encoding="utf-8")
