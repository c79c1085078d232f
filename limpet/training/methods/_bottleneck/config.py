"""The configuration of bottleneck adapters, as peft writes it into `adapter_config.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from peft import PeftConfig

from limpet.training.methods._bottleneck._register import add_peft_type

__all__ = ["ACTIVATIONS", "PLACEMENTS", "BottleneckConfig"]

PLACEMENTS = ("houlsby", "pfeiffer")
ACTIVATIONS = ("gelu", "relu", "swish")


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]
    """How bottleneck adapters are built.

    Attributes:
        target_modules: A pattern of the projections or normalisations with an adapter, or their names; null means
            those of `placement` for the model's architecture.
        exclude_modules: Projections to leave out.
        placement: `houlsby`, after the attention and after the feed-forward block, or `pfeiffer`, after the latter.
        reduction_factor: The width of the projection's output divided by the adapter's, where `size` is null.
        size: The adapter's width.
        activation: `gelu`, `relu` or `swish`.
        modules_to_save: Modules beside the adapters that are trained and saved.
    """

    target_modules: list[str] | str | None = field(default=None)
    exclude_modules: list[str] | str | None = field(default=None)
    placement: str = field(default="houlsby")
    reduction_factor: float = field(default=16.0)
    size: int | None = field(default=None)
    activation: str = field(default="gelu")
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Check the choices.

        Raises:
            ValueError: A field has a value that it can't have.
        """
        super().__post_init__()
        self.peft_type = add_peft_type()
        if self.placement not in PLACEMENTS:
            raise ValueError(f"placement must be one of {', '.join(PLACEMENTS)}, not {self.placement!r}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1, not {self.size}")
        if not 0 < self.reduction_factor < math.inf:
            raise ValueError(f"reduction_factor must be a finite number above 0, not {self.reduction_factor}")

    def width(self, features: int) -> int:
        """Return the adapter's width for a projection with so many output features; at least 1."""
        return self.size if self.size is not None else max(1, int(features / self.reduction_factor))
