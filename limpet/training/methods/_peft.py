"""What every method that goes through peft shares: attaching, saving in peft's format, loading strictly."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import nn

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.adapter_files import PEFT_FILES
from limpet.registry.formats.peft_allowed_fields import what_loading_uses
from limpet.training.methods._detach import remember
from limpet.training.methods._peft_fields import field_problems
from limpet.training.methods._saved_norms import no_norms
from limpet.training.methods._settings import OwnSettings

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

__all__ = ["ThroughPeft", "attach", "canonical", "linear_targets", "load"]

_ADAPTER = "default"
_BEFORE = "_limpet_before"
# what peft and the models raise for a configuration that does not suit the model
_REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError)


class ThroughPeft(OwnSettings):
    """A method whose adapters are peft's: their files are saved, loaded and taken off in one way."""

    peft_type: str

    def virtual_tokens(self, config: Mapping[str, Any]) -> int:
        """See `Method.virtual_tokens`."""
        return 0

    def save(self, module: PeftModel, base_name: str, folder: Path) -> None:
        """See `Method.save`."""
        _save(module, base_name, folder, overrides=self.saved_fields())

    def saved_fields(self) -> Mapping[str, Any]:
        """Return the fields of peft's configuration that are not saved as they were trained with."""
        return {}

    def load(self, backbone: PreTrainedModel, files: Mapping[str, Path]) -> nn.Module:
        """See `Method.load`."""
        return load(backbone, files, self.peft_type)

    def detach(self, module: nn.Module) -> None:
        """See `Method.detach`."""
        _detach(module)


def attach(backbone: PreTrainedModel, config: PeftConfig) -> nn.Module:
    """Wrap the backbone in a peft model; the modules that `config` targets are replaced in place.

    Raises:
        UsageError: peft refuses the configuration for this base; the base is as before.
    """
    from peft import get_peft_model

    if getattr(config, "bias", "none") != "none":
        raise UsageError(
            f"bias={config.bias} would train the base's own biases, and the base stays as it is.", "--set bias=none"
        )
    before = remember(backbone)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            module: nn.Module = get_peft_model(backbone, config)
    except (*_REFUSALS, TypeError, ValueError) as error:
        before.restore()
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise UsageError(
            f"peft's {kind} does not attach to this base: {_first_line(error)}", "limpet methods"
        ) from error
    if not config.inference_mode and not any(parameter.requires_grad for parameter in module.parameters()):
        before.restore()
        raise UsageError("peft finds nothing to train in this base.", "limpet methods")
    # kept beside the module's own attributes, or torch would take the modules in it for children
    vars(module)[_BEFORE] = before
    return module


def _save(module: PeftModel, base_name: str, folder: Path, *, overrides: Mapping[str, Any]) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors`, the same bytes for the same adapter.

    peft keeps target modules in a set, whose order changes from process to process; here lists are sorted.
    """
    from peft import get_peft_model_state_dict

    config = module.peft_config[_ADAPTER].to_dict()
    config |= {"inference_mode": True, "base_model_name_or_path": base_name, **overrides}
    text = json.dumps(canonical(config), indent=2, sort_keys=True)
    (folder / PEFT_FILES[0]).write_text(text + "\n", encoding="utf-8")
    state = get_peft_model_state_dict(module, save_embedding_layers=False)
    # clones: some methods share one tensor between layers, and safetensors refuses shared memory
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in sorted(state.items())}
    save_file(tensors, folder / PEFT_FILES[1], metadata={"format": "pt"})


def load(
    backbone: PreTrainedModel,
    files: Mapping[str, Path],
    peft_type: str,
    *,
    overrides: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Attach the adapter in `files`; every tensor must be expected, present and of the right shape.

    Of its configuration peft is handed what `peft_allowed` lists, so that it follows no path and no address.

    Args:
        backbone: The base's model.
        files: The adapter's files by name.
        peft_type: The kind of adapter that the method saves.
        overrides: Fields of peft's configuration that are not to be as the file has them.

    Raises:
        IntegrityError: A file is missing, the configuration is of another kind or not peft's, or tensors do not fit
            this base.
    """
    from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict

    missing = [name for name in PEFT_FILES if name not in files]
    if missing:
        raise IntegrityError(f"The adapter has no {' and no '.join(missing)}.", "limpet verify")
    try:
        content = json.loads(files[PEFT_FILES[0]].read_text(encoding="utf-8"))
        if content["peft_type"] != peft_type:
            raise ValueError(f"its peft_type is {content['peft_type']!r}, and its method saves {peft_type!r}")
        settings = what_loading_uses(content) | {"peft_type": peft_type, "task_type": "FEATURE_EXTRACTION"}
        # peft would fail halfway, with some modules of the base replaced
        if wrong := [f"{name} {what}" for name, what in field_problems(settings)]:
            raise ValueError("; ".join(wrong))
        if (saved := settings.get("modules_to_save")) and (why := no_norms(saved, backbone)):
            raise ValueError(f"modules_to_save {why}")
        # a configuration for inference would freeze the adapter, and training could not go on from it
        settings |= {"inference_mode": False, **(overrides or {})}
        module = attach(backbone, PeftConfig.from_peft_type(**settings))
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise IntegrityError(f"The adapter does not attach to this base: {error}", "limpet base show") from error
    tensors = load_file(files[PEFT_FILES[1]])
    expected = get_peft_model_state_dict(module, save_embedding_layers=False)
    problems = _differences(
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
        {name: tuple(tensor.shape) for name, tensor in tensors.items()},
    )
    if problems:
        _detach(module)
        raise IntegrityError(f"The adapter's tensors do not fit this base: {problems}", "limpet base show")
    set_peft_model_state_dict(module, tensors)
    return module


def _detach(module: nn.Module) -> None:
    """Put the base back as it was before `attach`."""
    vars(module)[_BEFORE].restore()


def linear_targets(backbone: PreTrainedModel, wanted: str) -> tuple[list[str], list[str]]:
    """Choose target modules by their last name, and the modules that share a name but must stay as they are.

    peft matches by suffix, so `dense` would also hit a pooler; such modules are excluded by their full name.

    Raises:
        UsageError: The base has no linear layer of a name that is wanted.
    """
    from transformers.pytorch_utils import Conv1D

    linear = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    in_blocks = [name for name in linear if "pooler" not in name.split(".")]
    known = sorted({name.rsplit(".", 1)[-1] for name in in_blocks})
    targets = known if wanted == "all-linear" else sorted({part.strip() for part in wanted.split(",")})
    unknown = sorted(set(targets) - set(known))
    if unknown:
        raise UsageError(
            f"This base has no linear layers called {', '.join(unknown)}; it has {', '.join(known)}.",
            f"--set target_modules={known[0] if known else 'all-linear'}",
        )
    excluded = sorted(set(linear) - set(in_blocks))
    return targets, [name for name in excluded if name.rsplit(".", 1)[-1] in targets]


def canonical(value: object) -> object:
    """Return a configuration's value as plain JSON, sets sorted."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if hasattr(value, "value"):
        return value.value
    return value


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


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
