"""Versions that were never trained, but have random tensors: made in milliseconds, and no two alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from limpet.home import Home
from limpet.registry import versions
from limpet.registry.records import tasks
from limpet.registry.values import VersionDraft, VersionRecord
from limpet.training import methods
from limpet.training.base.environment import current_environment
from limpet.training.data.stored_splits import read_split
from limpet.training.model.head_files import build_head, save_head

Make = Callable[..., VersionRecord]

TEXTS = ("wave of the tide", "a stone", "cloud and wind far new star moon", "boat the the old shell near reef salt")


@pytest.fixture
def make(home: Home, tmp_path: Path) -> Make:
    """Register a version of a task by a method with settings, its tensors and head drawn from a seed."""
    return maker(home, tmp_path)


def maker(home: Home, folder: Path) -> Make:
    """Return what makes versions in a home; their files are written under `folder`."""
    backbone = home.backbone()

    def made(
        task: str = "place", method: str = "lora", seed: int = 0, base_digest: str | None = None, **settings: Any
    ) -> VersionRecord:
        record, way = tasks.get(home.store, task), methods.get(method)
        files = folder / f"{task}-{method}-{seed}-{len(settings)}"
        files.mkdir(exist_ok=True)
        config = way.resolve(backbone.model, settings)
        module = way.attach(backbone.model, config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter += 0.3 * torch.randn_like(parameter)
        head = build_head(record, backbone.record, read_split(home.store, record, "train"))
        way.save(module, backbone.record.name, files)
        save_head(head, files)
        way.detach(module)
        draft = VersionDraft(
            task=task,
            method=method,
            config={"method": config, "max_length": 16},
            base_digest=base_digest or backbone.record.digest,
            data_digest=record.data_digest,
            labels=record.labels,
            seed=seed,
            environment=current_environment("float32"),
            metrics={},
            cost={},
        )
        version, _ = versions.register(home.store, draft, {path.name: path for path in files.iterdir()})
        return version

    return made
