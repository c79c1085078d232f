"""What every method that goes through peft shares: attaching, saving in peft's format, loading strictly."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from limpet.errors import IntegrityError
from limpet.training.peft_fields import field_problems

__all__ = ["PEFT_FILES", "attach", "detach", "load", "save"]

PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")


def attach(backbone: Any, config: Any) -> nn.Module:
    """Wrap the backbone in a peft model; the modules that `config` targets are replaced in place."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        module: nn.Module = get_peft_model(backbone, config)
    return module


def save(module: Any, base_name: str, folder: Path) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, the same bytes for the same adapter.

    peft keeps target modules in a set, whose order changes from process to process; here lists are sorted.
    """
    from peft import get_peft_model_state_dict

    config = module.peft_config["default"].to_dict()
    config |= {"inference_mode": True, "base_model_name_or_path": base_name}
    text = json.dumps(_canonical(config), indent=2, sort_keys=True)
    (folder / PEFT_FILES[0]).write_text(text + "\n", encoding="utf-8")
    state = get_peft_model_state_dict(module, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    save_file(tensors, folder / PEFT_FILES[1], metadata={"format": "pt"})


def load(backbone: Any, files: Mapping[str, Path]) -> nn.Module:
    """Attach the adapter in `files`; every tensor must be expected, present and of the right shape.

    Raises:
        IntegrityError: A file is missing, the configuration is not peft's, or tensors do not fit this base.
    """
    from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict

    missing = [name for name in PEFT_FILES if name not in files]
    if missing:
        raise IntegrityError(f"The adapter has no {' and no '.join(missing)}.", "limpet verify")
    try:
        settings = json.loads(files[PEFT_FILES[0]].read_text(encoding="utf-8"))
        # peft would fail halfway, with some modules of the base replaced
        if wrong := [f"{name} {what}" for name, what in field_problems(settings)]:
            raise ValueError("; ".join(wrong))
        # a configuration for inference would freeze the adapter, and training could not go on from it
        module = attach(backbone, PeftConfig.from_peft_type(**settings | {"inference_mode": False}))
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"The adapter does not attach to this base: {error}", "limpet base show") from error
    tensors = load_file(files[PEFT_FILES[1]])
    expected = get_peft_model_state_dict(module, save_embedding_layers=False)
    problems = _differences(
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
    )
    if problems:
        detach(module)
        raise IntegrityError(f"The adapter's tensors do not fit this base: {problems}", "limpet base show")
    set_peft_model_state_dict(module, tensors)
    return module


def detach(module: Any) -> None:
    """Put the base's own modules back."""
    backbone = module.unload()
    # peft leaves its configuration on the model, and warns of a second adapter at the next attach
    if hasattr(backbone, "peft_config"):
        del backbone.peft_config


def _canonical(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if hasattr(value, "value"):
        return value.value
    return value


def _differences(expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> str:
    missing = sorted(expected.keys() - given.keys())
    unexpected = sorted(given.keys() - expected.keys())
    reshaped = [
        f"{name} is {given[name]}, not {expected[name]}"
        for name in sorted(expected.keys() & given.keys())
        if expected[name] != given[name]
    ]
    parts = [f"{len(missing)} missing ({missing[0]}, ...)"] if missing else []
    parts += [f"{len(unexpected)} unexpected ({unexpected[0]}, ...)"] if unexpected else []
    parts += [f"{len(reshaped)} of another shape ({reshaped[0]}, ...)"] if reshaped else []
    return "; ".join(parts)
