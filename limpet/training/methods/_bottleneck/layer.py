"""One bottleneck adapter, f(h) = up(act(down(h))), on the output of a projection or around a normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, silu

from limpet.training.methods._bottleneck.config import BottleneckConfig

__all__ = ["BottleneckLayer"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "relu": relu, "swish": silu}


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A projection of the base, followed by an adapter; or a normalisation with an adapter around it.

    The sublayer adds its residual to what a projection returns, so the adapter stands where Houlsby et al. put it:
    after the projection back, before the skip connection. A normalisation takes the sum s of the feed-forward block
    and its residual; its adapter reads LN(s) and adds to s: LN(s + f(LN(s))), as Pfeiffer et al. have it.
    Up-projection and its bias begin at zero: the identity.

    Args:
        base_layer: The projection, any module with `out_features` or transformers' Conv1D; or a LayerNorm.
        adapter_name: peft's name of the adapter.
        config: How it is built.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ()

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.activations: dict[str, str] = {}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter of that name."""
        # peft's half of this class is unknown to the type checker
        own: Any = self
        base = own.get_base_layer()
        features = _features(base)
        width = config.width(features)
        down, up = nn.Linear(features, width), nn.Linear(width, features)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.activations[adapter_name] = config.activation
        own._move_adapter_to_device_of_base_layer(adapter_name)
        own.set_adapter(own.active_adapters, inference_mode=config.inference_mode)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the projection of `hidden`, adapted by every active adapter in turn; or its normalisation."""
        own: Any = self
        result: Tensor = self.base_layer(hidden, *args, **kwargs)
        names = () if own.disable_adapters else [name for name in own.active_adapters if name in self.bottleneck_down]
        for name in names:
            if isinstance(own.get_base_layer(), nn.LayerNorm):
                hidden = hidden + self._adapt(name, result)
                result = self.base_layer(hidden)
            else:
                result = result + self._adapt(name, result)
        return result

    def _adapt(self, name: str, hidden: Tensor) -> Tensor:
        """Return f(h), of the shape and dtype of `hidden`."""
        own: Any = self
        down, up = own.bottleneck_down[name], own.bottleneck_up[name]
        inner = _ACTIVATIONS[self.activations[name]](down(hidden.to(down.weight.dtype)))
        adapted: Tensor = up(inner).to(hidden.dtype)
        return adapted

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """A bottleneck is not linear, so no weight of the base can take it in.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a bottleneck adapter has an activation and can't be merged into the base")

    def unmerge(self) -> None:
        """Nothing was merged."""

    def __repr__(self) -> str:
        return "bottleneck." + super().__repr__()


def _features(base: Any) -> int:
    """Return the width of what a module gives."""
    if isinstance(base, nn.LayerNorm):
        return int(base.normalized_shape[-1])
    # transformers' Conv1D calls it nf
    return int(base.out_features if hasattr(base, "out_features") else base.nf)
