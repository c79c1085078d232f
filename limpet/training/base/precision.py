"""The dtype that products are computed in."""

from __future__ import annotations

import torch

from limpet.errors import UsageError
from limpet.training.base.environment import bf16_is_fast

__all__ = ["EMULATED", "autocast", "check_dtype", "is_emulated", "resolve_dtype"]

_OVERFLOWING = frozenset({"deberta", "deberta-v2"})
"""Transformers masks their scores, which are in bfloat16 then, with the lowest number of float32."""
EMULATED = "bfloat16 is not multiplied in hardware here and takes many times as long; dtype auto takes float32"


def check_dtype(wanted: str) -> None:
    """Refuse a dtype that products can't be computed in.

    Raises:
        UsageError: There is no such dtype here.
    """
    if wanted not in ("auto", "bfloat16", "float32"):
        raise UsageError(f"The dtype can't be {wanted!r}.", "it must be auto, bfloat16 or float32")


def resolve_dtype(wanted: str, architecture: str | None = None) -> str:
    """Return `bfloat16` or `float32` for `auto`: the former where it is multiplied in hardware.

    Args:
        wanted: `auto`, `bfloat16` or `float32`.
        architecture: The base's; one that can't be computed in bfloat16 is computed in float32.

    Raises:
        UsageError: There is no such dtype here, or not for this architecture.
    """
    check_dtype(wanted)
    overflows = architecture in _OVERFLOWING
    if wanted == "bfloat16" and overflows:
        raise UsageError(f"{architecture} models overflow in bfloat16.", "--dtype float32, or auto, which takes it")
    if wanted == "auto":
        return "bfloat16" if bf16_is_fast() and not overflows else "float32"
    return wanted


def is_emulated(dtype: str) -> bool:
    """Tell whether products in `dtype` are slower here than in float32, because nothing multiplies it in hardware."""
    return dtype == "bfloat16" and not bf16_is_fast()


def autocast(device: torch.device | str, dtype: str) -> torch.autocast:
    """Return a context in which products are computed in `dtype`; norms, sums and softmax stay in float32."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=dtype == "bfloat16")
