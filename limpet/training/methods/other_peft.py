"""Every other method of peft, as `peft:<NAME>`: its configuration's fields are its settings."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from limpet.errors import UsageError
from limpet.registry.formats import peft_config
from limpet.registry.formats.peft_allowed_fields import FIELDS
from limpet.training.methods import _peft, _prompts
from limpet.training.methods._protocol import ALL_HEADED, Capabilities
from limpet.training.methods._settings import Setting, explain_fields, read_fields

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

__all__ = ["METHODS", "OtherPeft"]

# fields that are decided here, or that only make sense for what can't be trained here
_OURS = frozenset(
    {
        "task_type",
        "peft_type",
        "auto_mapping",
        "peft_version",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "modules_to_save",
        "runtime_config",
        "megatron_config",
        "megatron_core",
        "num_transformer_submodules",
        "tokenizer_name_or_path",
        "tokenizer_kwargs",
    }
)
_UNFIT = {
    "ADAPTION_PROMPT": "it looks for its layers in a causal language model, and adapters stand on the backbone here",
    "ADALORA": "its ranks are shared out anew by a call after every step, which only a loop of its own makes",
    "CPT": "it needs the token ids of prompts and a causal language model's loss",
    "MULTITASK_PROMPT_TUNING": "one prompt holds several tasks and every example must say which is its own",
    "POLY": "one adapter holds several tasks and every example must say which is its own",
    "SHADOW": "it runs a second model beside the base, with a loss of its own",
    "XLORA": "it mixes LoRA adapters that were trained before",
}


class OtherPeft(_peft.ThroughPeft):
    """One of peft's methods that has no module of its own here.

    Args:
        peft_type: What peft calls it.

    Attributes:
        unfit: Why no adapter of this kind can be used here; empty where one can.
    """

    capabilities = Capabilities(task_types=ALL_HEADED)
    learning_rate = 1e-3
    alternatives = ("lora", "bottleneck", "ia3")

    def __init__(self, peft_type: str) -> None:
        self.peft_type = peft_type
        self.unfit = _UNFIT.get(peft_type, "")
        self.name = f"peft:{peft_type.lower()}"
        self.example: Mapping[str, Any] = {"token_indices": [7, 8]} if peft_type == "TRAINABLE_TOKENS" else {}
        self.summary = f"peft's {peft_type}, its configuration's fields as settings"

    def explain_settings(self) -> tuple[Setting, ...]:
        """See `Method.explain_settings`."""
        return explain_fields(self._class(), hidden=_OURS)

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return int(config.get("num_virtual_tokens") or 0)

    def recorded(self, peft_config: Mapping[str, Any]) -> dict[str, Any]:
        """See `Method.recorded`."""
        known = {field.name for field in dataclasses.fields(self._class())} - _OURS
        return {name: value for name, value in peft_config.items() if name in known}

    def resolve(self, backbone: PreTrainedModel, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return all fields of peft's configuration as they will be; see `Method.resolve`."""
        if self.unfit:
            raise UsageError(f"Method {self.name!r} can't be used here: {self.unfit}.", "--method lora")
        kind = self._class()
        given = read_fields(self.name, kind, settings, hidden=_OURS)
        if self.peft_type == "CARTRIDGE":
            _prompts.check_takes_past(backbone)
        if self.peft_type == "TRAINABLE_TOKENS" and not given.get("token_indices"):
            raise UsageError(
                f"Method {self.name!r} needs the ids of the tokens to train.", "--set token_indices=101,102"
            )
        fields = {field.name for field in dataclasses.fields(kind) if field.init}
        chosen = _defaults(self.peft_type, backbone, fields, given=given) | given
        try:
            made = kind(task_type="FEATURE_EXTRACTION", **chosen)
        except (TypeError, ValueError, ImportError) as error:
            raise UsageError(f"peft's {self.peft_type} refuses its settings: {error}", "limpet methods") from error
        config = {name: _peft.canonical(value) for name, value in made.to_dict().items() if name in fields - _OURS}
        if problems := peft_config.problems(config | {"peft_type": self.peft_type}):
            wrong = "; ".join(f"{name} {what}" for name, what in problems)
            raise UsageError(f"Method {self.name!r} can't be used like this: {wrong}.", "limpet methods")
        return config

    def attach(self, backbone: PreTrainedModel, config: Mapping[str, Any]) -> nn.Module:
        """See `Method.attach`."""
        return _peft.attach(backbone, self._class()(task_type="FEATURE_EXTRACTION", **config))

    def load(self, backbone: PreTrainedModel, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        if self.unfit:
            raise UsageError(f"Method {self.name!r} can't be used here: {self.unfit}.", "--method lora")
        if "num_virtual_tokens" in {field.name for field in dataclasses.fields(self._class())}:
            return _prompts.load(backbone, files, self.peft_type)
        return super().load(backbone, files)

    def _class(self) -> type[PeftConfig]:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
        from peft.utils.peft_types import PeftType

        kind: type[PeftConfig] = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(self.peft_type)]
        return kind


def _defaults(
    peft_type: str, backbone: PreTrainedModel, fields: set[str], *, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return values for fields that peft leaves to the reader, or whose default fits only wide models."""
    chosen: dict[str, Any] = {}
    if "num_virtual_tokens" in fields:
        chosen["num_virtual_tokens"] = 20
    if "target_modules" in fields and given.get("target_modules") is None:
        chosen |= _targets(peft_type, backbone, fields)
    shapes = _shapes(backbone, chosen.get("target_modules") or given.get("target_modules"))
    return chosen | _sizes(peft_type, backbone, shapes)


def _sizes(peft_type: str, backbone: PreTrainedModel, shapes: list[tuple[int, int]]) -> dict[str, Any]:
    """Return peft's default sizes where the base has room for them, and what it has room for where not."""
    if peft_type == "FROD":
        return {"progressbar": False}
    if not shapes:
        return {}
    common = math.gcd(*(side for shape in shapes for side in shape))
    narrowest = min(min(shape) for shape in shapes)
    fewest = min(rows * columns for rows, columns in shapes)
    return {
        "C3A": {"block_size": math.gcd(common, 256)},
        "FOURIERFT": {"n_frequency": min(1000, fewest)},
        "MISS": {"r": min(64, narrowest)},
        "PSOFT": {"r": min(32, narrowest)},
        "ROAD": {"group_size": math.gcd(common, 64)},
        # as many values as a LoRA of this rank has, and at most half of the weights; a seed, or no two runs are equal
        "SHIRA": {"r": max(1, min(32, min(a * b // (2 * (a + b)) for a, b in shapes))), "random_seed": 0},
        "VBLORA": {"vector_length": math.gcd(common, 256)},
        "WAVEFT": {"n_frequency": min(2592, fewest)},
    }.get(peft_type, {})


def _targets(peft_type: str, backbone: PreTrainedModel, fields: set[str]) -> dict[str, Any]:
    if peft_type == "TRAINABLE_TOKENS":
        return {}
    if peft_type == "LN_TUNING":
        norms = [name for name, module in backbone.named_modules() if "Norm" in type(module).__name__]
        return {"target_modules": norms}
    targets, excluded = _peft.linear_targets(backbone, "all-linear")
    if not excluded:
        return {"target_modules": targets}
    if "exclude_modules" in fields:
        return {"target_modules": targets, "exclude_modules": excluded}
    # peft matches by suffix, and here nothing can be excluded; so the targets go by their full names
    full = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in targets and name not in excluded
    ]
    return {"target_modules": full}


def _shapes(backbone: PreTrainedModel, targets: str | list[str] | None) -> list[tuple[int, int]]:
    """Return the shapes of the targeted layers' weights."""
    shapes = []
    for name, module in backbone.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.dim() != 2 or isinstance(module, nn.Embedding) or targets is None:
            continue
        if isinstance(targets, str):
            hit = bool(re.fullmatch(targets, name))
        else:
            hit = any(name == target or name.endswith(f".{target}") for target in targets)
        if hit:
            shapes.append((int(weight.shape[0]), int(weight.shape[1])))
    return shapes


def _all() -> tuple[OtherPeft, ...]:
    from peft.utils.peft_types import PeftType

    # who lists what peft has finds ours among it
    import limpet.training.methods._bottleneck  # noqa: F401

    # a newer peft may have kinds whose fields nobody has looked at
    return tuple(OtherPeft(kind.value) for kind in PeftType if kind.value in FIELDS or kind.value in _UNFIT)


METHODS = _all()
