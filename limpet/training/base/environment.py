"""The environment of a result: all that may change its bits without changing data or weights."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import version

from limpet.registry.values import Environment

__all__ = ["arithmetic", "bf16_is_fast", "current_environment"]

# what the libraries below torch read from the environment and compute by
_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


@cache
def bf16_is_fast() -> bool:
    """Tell whether this processor or accelerator multiplies bfloat16 matrices in hardware."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def current_environment(dtype: str, activations: str = "float32") -> Environment:
    """Describe this process, computing products in `dtype` and passing on `activations`; see `Environment`."""
    import torch

    return Environment(
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=version("transformers"),
        peft=version("peft"),
        limpet=version("limpet"),
        device=_device_name(),
        dtype=dtype,
        threads=torch.get_num_threads(),
        activations=activations,
    )


def arithmetic() -> dict[str, str]:
    """Return what this process computes products by beside its `Environment`: torch's switches, and variables.

    A product in float32 may be computed in a shorter dtype where a program or a variable asks for speed.
    """
    import torch

    switches = {
        "float32_products": torch.get_float32_matmul_precision(),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()).lower(),
    }
    return switches | {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}


@cache
def _device_name() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda:{torch.cuda.get_device_name()}"
    return f"cpu:{platform.machine()}:{torch.backends.cpu.get_cpu_capability()}"
