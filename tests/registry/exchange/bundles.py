"""Versions whose files are real ones, homes to take them in, and bundles put together by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limpet.registry import versions
from limpet.registry.exchange import bundle_format, export_import
from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.registry.records import bases, reference_outputs
from limpet.registry.settings import Settings
from limpet.registry.store import Store, create_store
from limpet.registry.values import FileEntry, VersionRecord
from tests.migrated import with_database
from tests.registry.homes import ENVIRONMENT, a_base, draft

CONFIG = {
    "peft_type": "LORA",
    "task_type": "FEATURE_EXTRACTION",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["query", "value"],
    "base_model_name_or_path": "sample:tiny",
}


def safetensors(header: Any, buffer: bytes = b"") -> bytes:
    """Return a file of the format, whatever its header says."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + buffer


def adapter_files(seed: int = 0) -> dict[str, bytes]:
    """Return the files of a tiny sound adapter with its head."""
    shapes = {"layer.query.lora_A.weight": (2, 3), "layer.query.lora_B.weight": (3, 2)}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * shape[0] * shape[1]
        header[f"base_model.model.{name}"] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    numbers = struct.pack("<12f", *(seed + index / 8 for index in range(12)))
    head = {"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    return {
        "adapter_config.json": json.dumps(CONFIG).encode(),
        "adapter_model.safetensors": safetensors(header, numbers),
        "head.json": b'{"type": "classification", "pooling": "mean", "hidden_size": 3, "labels": 2}',
        "head.safetensors": safetensors(head, bytes(24)),
    }


def add_sound_version(
    store: Store, task: str = "news", seed: int = 0, *, probe: bool = True, **changes: Any
) -> VersionRecord:
    """Register a version that a bundle can hold, with a probe."""
    files = {}
    for name, content in adapter_files(seed).items():
        files[name] = store.path / f"sound-{task}-{seed}-{name}"
        files[name].write_bytes(content)
    made = draft(task, seed, **{"config": {"r": 2, "max_length": 16}} | changes)
    version = versions.register(store, made, files)[0]
    for file in files.values():
        file.unlink()
    if probe:
        keep_a_probe(store, version)
    return version


def keep_a_probe(store: Store, version: VersionRecord) -> None:
    reference_outputs.keep(
        store,
        version.reference,
        reference_outputs.write(["a wave", "a reef"], [[0.5, -1.0], [0.25, 2.0]], 16, environment=ENVIRONMENT),
    )


def a_home(folder: Path, *, base: bool = True) -> Store:
    """Make an empty home that knows the base of `homes`, or nothing."""
    store = create_store(with_database(folder), Settings(cache=folder.parent / "cache"))
    if base:
        bases.add(store, a_base())
    return store


def entries_of(path: Path, folder: Path) -> dict[str, bytes]:
    """Return the entries of a sound bundle by name."""
    folder.mkdir()
    return {name: copy.read_bytes() for name, copy in bundle_format.unpack(path, folder)[1].items()}


def header(name: str, size: int, /, **fields: bytes) -> bytes:
    """Return a ustar header with a right checksum, its fields overwritten at will."""
    places = {
        "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12), "mtime": (136, 12),
        "type": (156, 1), "linkname": (157, 100), "magic": (257, 8), "uname": (265, 32), "gname": (297, 32),
        "major": (329, 8), "minor": (337, 8), "prefix": (345, 155),
    }  # fmt: skip
    given = {
        "name": name.encode("utf-8", "surrogateescape"),
        "mode": b"0000644\0",
        "uid": b"0000000\0",
        "gid": b"0000000\0",
        "size": b"%011o\0" % size,
        "mtime": b"00000000000\0",
        "type": b"0",
        "magic": b"ustar\x0000",
    } | fields
    block = bytearray(512)
    for field, value in given.items():
        start, length = places[field]
        block[start : start + length] = value.ljust(length, b"\0")[:length]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: str, content: bytes, /, **fields: bytes) -> bytes:
    """Return a header with its content and padding."""
    return header(name, len(content), **fields) + content + bytes(-len(content) % 512)


def index_of(entries: Mapping[str, bytes], /, **changes: Any) -> dict[str, Any]:
    """Return what `bundle.json` says of these entries."""
    try:
        manifest = json.loads(entries["manifest.json"])
        version = {"task": manifest["task"], "digest": manifest["digest"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        version = {"task": "news", "digest": digest_bytes(b"")}
    listed = [
        {"name": name, "digest": digest_bytes(content), "size": len(content)}
        for name, content in sorted(entries.items())
    ]
    return {"schema": 1, "format": "limpet-bundle", "version": version, "entries": listed} | changes


def sealed(entries: Mapping[str, bytes], /, **changes: Any) -> bytes:
    """Return a bundle of these entries whose digests and headers are all right, whatever the entries hold."""
    raw = canonical_json(index_of(entries, **changes))
    members = (member(name, content) for name, content in sorted(entries.items()))
    return member("bundle.json", raw) + b"".join(members) + bytes(1024)


def resealed(entries: Mapping[str, bytes], /, **changes: bytes | None) -> dict[str, bytes]:
    """Change files of a version, and the manifest so that its digests are those of the new files.

    Names are written with `_` for `.`; null takes an entry away.
    """
    given = {name.replace("_json", ".json").replace("_safetensors", ".safetensors"): c for name, c in changes.items()}
    made = {name: content for name, content in (dict(entries) | given).items() if content is not None}
    manifest = json.loads(made["manifest.json"])
    names = ({file["name"] for file in manifest["files"]} | given.keys()) & made.keys() - {"manifest.json"}
    files = [FileEntry(name, digest_bytes(made[name]), len(made[name])) for name in sorted(names)]
    return made | {"manifest.json": signed(manifest | {"files": [vars(file) for file in files]})}


def signed(manifest: dict[str, Any]) -> bytes:
    """Return a manifest whose digest is that of its content, as somebody who forges one would."""
    names = ("task", "method", "config", "base_digest", "data_digest", "labels", "seed")
    parts = {name: manifest.get(name) for name in names} | {"files": manifest.get("files")}
    return canonical_json(manifest | {"digest": digest_bytes(canonical_json(parts))})


def exported(store: Store, path: Path, reference: str = "news@1", *, data: bool = True) -> Path:
    return export_import.export_bundle(store, reference, path, data=data)
