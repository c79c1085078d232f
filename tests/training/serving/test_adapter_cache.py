"""The adapter cache: bytes are hashed before they are used, once a file, and again if the file may have changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError
from limpet.home import Home
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import blob_key
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training.model.task_model import version_files
from limpet.training.serving.adapter_cache import AdapterCache
from limpet.training.serving.lora_file import layout_of, read_lora
from limpet.training.serving.verified_files import VerifiedFiles
from tests.training.serving.conftest import Make

ROOMY = 1 << 30


class CountingBlobs(LocalBlobs):
    """Blobs that remember what was hashed."""

    hashed: list[str]

    def rehash(self, digest: str) -> str:
        vars(self).setdefault("hashed", []).append(digest)
        return super().rehash(digest)


@pytest.fixture
def counting(home: Home) -> Iterator[Store]:
    """The home's registry, counting; its files are old enough to be known by their times."""
    assert isinstance(home.store.blobs, LocalBlobs)
    yield replace(home.store, blobs=CountingBlobs(home.store.blobs.root))


def hashed(store: Store) -> list[str]:
    found: list[str] = vars(store.blobs).get("hashed", [])
    return found


def tensors_file(store: Store, version: VersionRecord) -> tuple[str, Path]:
    digest = next(file.digest for file in version.files if file.name == "adapter_model.safetensors")
    assert isinstance(store.blobs, LocalBlobs)
    return digest, store.blobs.root / blob_key(digest)


def overwrite_in_place(path: Path) -> None:
    """Flip a bit of a file, and put its time of writing back."""
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_is_hashed_once_as_long_as_it_is_the_same(counting: Store, make: Make) -> None:
    digest, path = tensors_file(counting, make())
    time.sleep(0.06)
    files = VerifiedFiles(counting.blobs)
    assert [files.path(digest) for _ in range(3)] == [path] * 3
    assert hashed(counting) == [digest] and files.unchanged(digest)
    os.utime(path)
    assert not files.unchanged(digest)
    time.sleep(0.06)
    assert files.path(digest) == files.path(digest) == path
    assert hashed(counting) == [digest] * 2


def test_a_file_of_this_moment_is_hashed_again(counting: Store, make: Make) -> None:
    digest, path = tensors_file(counting, make())
    os.utime(path)
    files = VerifiedFiles(counting.blobs)
    files.path(digest), files.path(digest)
    assert hashed(counting) == [digest] * 2


def test_a_bit_that_flips_under_the_same_time_of_writing_is_found(counting: Store, make: Make) -> None:
    digest, path = tensors_file(counting, make())
    time.sleep(0.06)
    files = VerifiedFiles(counting.blobs)
    files.path(digest)
    overwrite_in_place(path)
    assert not files.unchanged(digest)
    with pytest.raises(IntegrityError, match="hash to"):
        files.path(digest)


@pytest.mark.parametrize("damage", [overwrite_in_place, Path.unlink])
def test_a_known_file_that_changes_is_not_copied_into_a_slot(home: Home, make: Make, damage: object) -> None:
    version = make()
    adapter_cache = AdapterCache(home.store, home.backbone(), ROOMY)
    lora = adapter_cache.get(version).lora
    assert lora is not None and callable(damage)
    damage(tensors_file(home.store, version)[1])
    with pytest.raises(IntegrityError, match=r"hash to|missing"):
        adapter_cache.copy_into(version, torch.empty(lora.layout.width))
    assert len(adapter_cache) == 0 and adapter_cache.size == 0


def test_a_known_file_whose_times_alone_change_is_hashed_again_and_used(home: Home, make: Make) -> None:
    version = make()
    adapter_cache = AdapterCache(home.store, home.backbone(), ROOMY)
    lora = adapter_cache.get(version).lora
    assert lora is not None
    os.utime(tensors_file(home.store, version)[1])
    slot = torch.zeros(lora.layout.width)
    adapter_cache.copy_into(version, slot)
    assert slot.abs().sum() > 0


def test_a_slot_holds_the_tensors_of_the_file(home: Home, make: Make) -> None:
    version = make(r=3, target_modules="query,dense")
    lora = AdapterCache(home.store, home.backbone(), ROOMY).get(version).lora
    assert lora is not None
    tensors = load_file(version_files(home.store, home.backbone(), version)["adapter_model.safetensors"])
    slot = torch.zeros(lora.layout.width)
    lora.copy_into(slot)
    for target, starts in zip(lora.layout.targets, lora.layout.starts, strict=True):
        for letter, start in zip("AB", starts, strict=True):
            tensor = tensors[f"base_model.model.{target.module}.lora_{letter}.weight"]
            assert torch.equal(slot[start : start + tensor.numel()].view(tensor.shape), tensor)
    assert len(tensors) == 2 * len(lora.layout.targets)


@pytest.mark.parametrize(("settings", "scale"), [({"r": 8, "alpha": 4}, 0.5), ({"r": 4, "rslora": True}, 8.0)])
def test_the_factor_is_that_of_lora_or_of_rslora(
    home: Home, make: Make, settings: dict[str, object], scale: float
) -> None:
    lora = AdapterCache(home.store, home.backbone(), ROOMY).get(make(**settings)).lora
    assert lora is not None and lora.scale == scale


def test_what_slots_cannot_hold_is_left_to_peft(home: Home, make: Make, tmp_path: Path) -> None:
    files = version_files(home.store, home.backbone(), make())
    model = home.backbone().model
    config = json.loads(files["adapter_config.json"].read_text(encoding="utf-8"))
    layout = layout_of(model, config)
    assert layout is not None
    for field, value in {
        "use_dora": True,
        "rank_pattern": {"query": 2},
        "alpha_pattern": {"query": 2},
        "bias": "all",
        "lora_bias": True,
        "modules_to_save": ["pooler"],
        "layers_to_transform": [0],
        "init_lora_weights": "pissa",
        "target_modules": "query|value",
        "peft_type": "LOHA",
        "something_new": 1,
    }.items():
        assert layout_of(model, config | {field: value}) is None, field
    assert layout_of(model, config | {"target_modules": ["word_embeddings"]}) is None
    assert layout_of(model, config | {"target_modules": ["nothing"]}) is None
    tensors = load_file(files["adapter_model.safetensors"])
    path = tmp_path / "changed.safetensors"
    first, *_ = tensors
    for changed in (
        {name: tensor for name, tensor in tensors.items() if name != first},
        tensors | {"another": torch.zeros(1)},
        tensors | {first: tensors[first].double()},
        tensors | {first: tensors[first][:, :-1].contiguous()},
    ):
        save_file(changed, path)
        assert read_lora(path, config, layout) is None
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, path)
    half = read_lora(path, config, layout)
    assert half is not None
    slot = torch.zeros(layout.width)
    half.copy_into(slot)
    start = layout.starts[0][0]
    assert torch.equal(
        slot[start : start + tensors[first].numel()].view_as(tensors[first]), tensors[first].bfloat16().float()
    )
