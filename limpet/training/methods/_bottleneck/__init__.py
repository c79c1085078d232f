"""Bottleneck adapters as a method of peft: importing this package is what registers it, under `BOTTLENECK`.

peft has no such adapter of its own. After the import, everything of peft's that asks its registry knows it:
`get_peft_model`, `PeftModel.from_pretrained`, `PeftConfig.from_pretrained`.
"""

from __future__ import annotations

from limpet.training.methods._bottleneck._register import register
from limpet.training.methods._bottleneck.config import ACTIVATIONS, PLACEMENTS, BottleneckConfig
from limpet.training.methods._bottleneck.layer import BottleneckLayer
from limpet.training.methods._bottleneck.model import BottleneckModel, pattern

__all__ = ["ACTIVATIONS", "PLACEMENTS", "BottleneckConfig", "BottleneckLayer", "BottleneckModel", "pattern"]

register(BottleneckConfig, BottleneckModel)
