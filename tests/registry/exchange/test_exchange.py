from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from limpet.errors import ConflictError, IntegrityError, LimpetError, NotFoundError
from limpet.registry import versions
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import blob_key
from limpet.registry.exchange import export_import
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.store import Store
from limpet.registry.system import atomic_files
from tests.registry.homes import draft

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"tensors", "head.json": b"[]"}


@pytest.fixture
def one(home: Store, tmp_path: Path) -> Store:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    versions.register(home, draft(), {name: tmp_path / name for name in FILES})
    return home


def test_export_writes_every_file_flat_with_labels_and_manifest(one: Store, tmp_path: Path) -> None:
    folder = export_import.export(one, "news@1", tmp_path / "deep" / "out")
    version = versions.resolve(one, "news@1")
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(written) == {*FILES, "labels.json", "manifest.json"}
    assert {name: written[name] for name in FILES} == FILES
    assert json.loads(written["labels.json"]) == ["x", "y"]
    manifest = json.loads(written["manifest.json"])
    assert (manifest["digest"], manifest["base_digest"]) == (version.digest, version.base_digest)
    for file in manifest["files"]:
        assert digest_bytes(written[file["name"]]) == file["digest"]


def test_export_fills_an_empty_folder_but_no_other(one: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export_import.export(one, "news", tmp_path / "empty")
    for target in (tmp_path / "empty", tmp_path / "head.json"):
        with pytest.raises(ConflictError):
            export_import.export(one, "news", target)


def test_export_of_a_rotten_version_leaves_nothing(one: Store, tmp_path: Path) -> None:
    assert isinstance(one.blobs, LocalBlobs)
    file = one.blobs.root / blob_key(digest_bytes(b"tensors"))
    file.chmod(0o644)
    file.write_bytes(b"tensorz")
    before = set(tmp_path.iterdir())
    with pytest.raises(IntegrityError):
        export_import.export(one, "news@1", tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_export_of_nothing_and_to_nowhere_are_typed_errors(one: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        export_import.export(one, "news@2", tmp_path / "out")
    with pytest.raises(LimpetError):
        export_import.export(one, "news@1", tmp_path / "head.json" / "out")


def test_an_export_is_on_the_disk_before_it_has_its_name(
    one: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    synced: list[tuple[str, bool]] = []
    monkeypatch.setattr(atomic_files, "sync_file", lambda path: synced.append((path.name, target.exists())))
    export_import.export(one, "news@1", target)
    inside = [name for name, named in synced if not named]
    assert sorted(inside[:-1]) == sorted(path.name for path in target.iterdir())
    assert synced[-1] == (tmp_path.name, True)


def test_an_export_takes_no_more_memory_than_a_piece(home: Store, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(bytes(40 << 20))
    versions.register(home, draft(), {"adapter_model.safetensors": tmp_path / "adapter_model.safetensors"})
    tracemalloc.start()
    try:
        export_import.export(home, "news@1", tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out" / "adapter_model.safetensors").stat().st_size == 40 << 20
