"""Where dropout of the base acts: in what is trained of a copy of it, and never in a frozen base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from limpet.training import methods
from limpet.training.heads import HeadConfig
from limpet.training.heads.classification import ClassificationHead
from limpet.training.model.task_model import TaskModel
from tests.tiny import tiny_base
from tests.training.methods.table import load_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tiny(tiny_base(tmp_path_factory.mktemp("base") / "bert"))


@pytest.mark.parametrize(("name", "acts"), [("full", True), ("partial", True), ("lora", False), ("prefix", False)])
def test_dropout_of_the_base_acts_where_a_copy_of_it_is_trained(
    tiny: Any, tmp_path: Path, name: str, acts: bool
) -> None:
    method = methods.get(name)
    frozen = frozenset(id(module) for module in tiny.modules())
    module = method.attach(tiny, method.resolve(tiny, {"layers": 1} if name == "partial" else {}))
    try:
        head = ClassificationHead(HeadConfig("classification", "mean", tiny.config.hidden_size, 2, 0.0))
        model = TaskModel(module, head, frozen).train()
        rates = [part.p for part in model.module.modules() if isinstance(part, nn.Dropout) and part.training]
        assert any(rate > 0 for rate in rates) is acts
        assert method.capabilities.trains_base_copy is acts
        ids = torch.tensor([[2, 5, 7, 3]])
        with torch.no_grad():
            twice = [model(input_ids=ids, attention_mask=torch.ones_like(ids)) for _ in range(2)]
        assert torch.equal(*twice) is not acts
    finally:
        method.detach(module)
