"""Checkpoints whose weights are stored quantised: what reads them, and how they are held then.

bitsandbytes' weights of 4 and 8 bits stay as they are in the files. Of the methods of `WRITTEN_OUT`, transformers
writes weights of 16 bits out while it reads the files, so that every method of learning works on them. What other
libraries read is held in their own layers, if such a model is seen to answer and to stay as it is.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from limpet.errors import UnavailableError, UsageError
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.values import BaseRecord
from limpet.training.base.holding.recipes import DTYPES, recipe_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["INSTEAD", "OF_BITSANDBYTES", "WRITTEN_OUT", "check_stored", "is_quantised", "own_dtype", "stored_in"]

INSTEAD = "name the model that it was made from, or a .gguf file of it, which is dequantised"
OF_BITSANDBYTES = ("nf4", "fp4", "int8")
WRITTEN_OUT = ("compressed-tensors", "fp8", "mxfp4")
_BITSANDBYTES = "bitsandbytes"
_PACKAGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(OF_BITSANDBYTES, (_BITSANDBYTES,)),
    "aqlm": ("aqlm",),
    "auto-round": ("auto-round",),
    "awq": ("gptqmodel",),
    "compressed-tensors": ("compressed-tensors",),
    "eetq": ("kernels",),
    "fbgemm_fp8": ("fbgemm-gpu",),
    "fp8": (),
    "gptq": ("optimum", "gptqmodel"),
    "hqq": ("hqq",),
    "mxfp4": (),
    "quanto": ("optimum-quanto",),
    "quark": ("amd-quark",),
    "spqr": ("spqr_quant",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
}
"""What transformers needs to read each kind of weights, by the names of their packages."""


def stored_in(config: PretrainedConfig) -> str | None:
    """Return what the weights of a checkpoint are stored in, such as `nf4`, `int8` or `gptq`; null where in floats.

    Args:
        config: Its configuration, as transformers reads it.
    """
    settings = _settings(config)
    if not settings:
        return None
    method = settings.get("quant_method")
    kind = str(getattr(method, "value", method) or "a method that its config.json does not name")[:60]
    if kind != _BITSANDBYTES:
        return kind
    return str(settings.get("bnb_4bit_quant_type", "fp4")) if settings.get("load_in_4bit") else "int8"


def check_stored(kind: str | None, name: str) -> None:
    """Refuse weights that nothing which is installed here can read.

    Args:
        kind: What they are stored in, see `stored_in`.
        name: What the base is called, for the message.

    Raises:
        UnavailableError: The library that reads them is not installed; the message names it.
        UsageError: It is not known which library does.
    """
    if kind is None:
        return
    said = f"The weights of {name} are stored quantised ({kind})"
    if kind not in _PACKAGES:
        raise UsageError(f"{said}, and limpet knows no library that reads them.", INSTEAD)
    missing = [package for package in _PACKAGES[kind] if not _is_installed(package)]
    if missing:
        own = "'limpet[quantised]'" if missing == [_BITSANDBYTES] else " ".join(missing)
        verb = "is" if len(missing) == 1 else "are"
        raise UnavailableError(
            f"{said}, which needs {' and '.join(_PACKAGES[kind])}, and {' and '.join(missing)} {verb} not installed.",
            f"pip install {own}; or {INSTEAD}",
        )


def own_dtype(config: PretrainedConfig) -> str:
    """Return the dtype of what a checkpoint does not store quantised, such as its norms."""
    dtype = str(getattr(config, "dtype", None)).removeprefix("torch.")
    return dtype if dtype in DTYPES else "bfloat16"


def is_quantised(record: BaseRecord) -> bool:
    """Tell whether the weights of a base are held in few bits."""
    stored = record.location.get("stored")
    return "quantize" in (recipe_of(record) or {}) or (stored is not None and stored not in WRITTEN_OUT)


def _settings(config: PretrainedConfig) -> JsonObject:
    quantisation = getattr(config, "quantization_config", None)
    if not quantisation:
        return {}
    return dict(quantisation if isinstance(quantisation, dict) else vars(quantisation))


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
