"""Bundles, manifests and safetensors headers by the thousand, nearly right and quite wrong.

Whatever comes in is taken in whole, or refused with one of limpet's own errors; a refusal changes nothing in the
home, and nothing is ever written around it.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from sqlalchemy import text

from limpet.errors import LimpetError
from limpet.registry import versions
from limpet.registry.exchange import export_import
from limpet.registry.formats.canonical import canonical_json
from limpet.registry.formats.safetensors_header import check_header
from limpet.registry.records import tasks
from limpet.registry.store import Store, open_store
from limpet.registry.values import SplitRecord, TaskDefinition
from tests.registry.exchange.bundles import (
    a_home,
    adapter_files,
    add_sound_version,
    entries_of,
    exported,
    index_of,
    member,
    resealed,
    sealed,
    signed,
)
from tests.registry.homes import revise, stock

QUICK = 150
# six fuzzers: 120,000 cases in all
SLOW = 20_000

EXTREMES = [
    0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**40, 10**400,
    0.0, -0.0, 0.5, 1e308, 5e-324, -1e308,
    True, False, None,
    "", "\0", "..", "../../evil", "/etc/passwd", "\u202e", "\ud7ff", "\U0001f41a", "%2e%2e", "a" * 70, "news",
    "films", "sha256:", "sha256:" + "0" * 64, "2026-01-02T03:04:05.000006Z", "{0}", "'; --", "\x1b[2J",
    [], [[]], {}, {"": {}}, [None], ["x", "y"], ["y", "x"], {"a": [1, {"b": None}]},
]  # fmt: skip


def _limited(cases: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


# mutations


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes with a few bits flipped, bytes replaced, parts cut out, doubled or put elsewhere."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.integers(0, 5))
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from([1, 1, 2, 8, 100, 512, 1024]))
        if kind == 0 and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == 1 and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            other = draw(st.integers(0, max(0, len(data) - 1)))
            data[place:place] = data[other : other + length]
        elif kind == 4:
            data[place : place + length] = draw(st.binary(max_size=min(length, 64)))
        else:
            del data[place:]
    return bytes(data)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from _places(part, (*path, key))


@st.composite
def altered(draw: st.DrawFn, sound: Any) -> Any:
    """A JSON value with a few parts swapped, dropped, doubled, renamed, or made of another type."""
    value = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(1, 3))):
        places = [path for path in _places(value) if path]
        if not places:
            return draw(st.sampled_from(EXTREMES))
        path = draw(st.sampled_from(places))
        parent = _at(value, path[:-1])
        kind = draw(st.integers(0, 5))
        if kind <= 1:
            parent[path[-1]] = json.loads(json.dumps(draw(st.sampled_from(EXTREMES))))
        elif kind == 2:
            parent[path[-1]] = json.loads(json.dumps(_at(value, draw(st.sampled_from(places)))))
        elif kind == 3:
            del parent[path[-1]]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(["x", "", "digest", "name", "size", "__class__"]))] = parent.pop(path[-1])
        else:
            parent.append(parent[path[-1]])
    return value


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


# the home


@dataclass
class Field:
    """A home in a sandbox on a file system without a disk, where there is one; replaced after a case is taken in."""

    folder: Path
    entries: dict[str, bytes]
    bundle: bytes
    revised: dict[str, bytes]
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.template = self.folder / "template"
        a_home(self.template).database.close()
        self.sandbox = self.folder / "sandbox"
        self.sandbox.mkdir()
        (self.sandbox / "beside.json").write_text("{}")
        self.renew()

    def renew(self) -> None:
        shutil.rmtree(self.sandbox / "home", ignore_errors=True)
        shutil.copytree(self.template, self.sandbox / "home")
        self.store: Store = open_store(self.sandbox / "home")
        self.before = self.listing()

    def listing(self) -> list[tuple[str, int, int]]:
        """Every file of the sandbox with its size and when it was written."""
        found = []
        waiting = [str(self.sandbox)]
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    found.append((entry.path, status.st_size, status.st_mtime_ns))
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        return sorted(found)

    def bring(self, content: bytes) -> None:
        """Import a bundle, and hold what is left against the promise."""
        file = self.folder / "case.limpet"
        file.write_bytes(content)
        try:
            version, _ = export_import.import_bundle(self.store, file)
        except LimpetError as refused:
            assert refused.message and refused.hint
            self.counts["refused"] += 1
            assert self.listing() == self.before
            return
        self.counts["taken in"] += 1
        self._check_taken_in(version.digest)
        self.store.database.close()
        self.renew()

    def _check_taken_in(self, digest: str) -> None:
        assert (self.sandbox / "beside.json").read_text() == "{}"
        assert {path.name for path in self.sandbox.iterdir()} == {"beside.json", "home"}
        (found,) = versions.find(self.store).items
        assert found.digest == digest == versions.identity(found, found.files)
        versions.files(self.store, found)
        out = export_import.export_bundle(self.store, found.reference, self.folder / "again.limpet")
        out.unlink()
        with self.store.database.read() as session:
            assert session.execute(text("SELECT count(*) FROM versions")).scalar() == 1


@pytest.fixture(scope="module")
def ground() -> Iterator[Field]:
    memory = Path("/dev/shm")
    where = str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="limpet-fuzz-", dir=where) as name:
        folder = Path(name)
        source = stock(folder / "source")
        add_sound_version(source, metrics={"score": 0.5})
        made = exported(source, folder / "sound.limpet")
        add_sound_version(source, seed=1, data_digest=revise(source).data_digest)
        revised = entries_of(exported(source, folder / "revised.limpet", "news@2"), folder / "revised")
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield Field(folder, entries_of(made, folder / "entries"), made.read_bytes(), revised)
        finally:
            tempfile.tempdir = before


# the fuzzers: each gets the ground, a strategy's draw, and makes one case of it


def _bytes_case(ground: Field, draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=2048))
    if draw(st.integers(0, 9)) == 0:
        return member("bundle.json", draw(st.binary(max_size=600))) + bytes(1024)
    return draw(damaged(ground.bundle))


def _list_case(ground: Field, draw: st.DrawFn) -> bytes:
    """The list of entries says something else than the entries, whose headers are right."""
    index = draw(altered(index_of(ground.entries)))
    members = b"".join(member(name, content) for name, content in sorted(ground.entries.items()))
    return member("bundle.json", canonical_json(index)) + members + bytes(1024)


def _document_case(ground: Field, draw: st.DrawFn) -> bytes:
    """A document says something else, and every digest of its bytes is right."""
    name = draw(
        st.sampled_from(["task.json", "base.json", "labels.json", "probe.json", "head.json", "adapter_config.json"])
    )
    if draw(st.booleans()):
        content = canonical_json(draw(altered(json.loads(ground.entries[name]))))
    else:
        content = draw(damaged(ground.entries[name]))
    if name in adapter_files():
        return sealed(resealed(ground.entries, **{name.replace(".", "_"): content}))
    return sealed(ground.entries | {name: content})


def _revision_case(ground: Field, draw: st.DrawFn) -> bytes:
    """The task of a later revision says something else, and its data digest is that of what it says."""
    task = draw(altered(json.loads(ground.revised["task.json"])))
    manifest = json.loads(ground.revised["manifest.json"])
    try:
        splits = [SplitRecord(**split) for split in task["splits"]]
        definition = TaskDefinition(**task["definition"])
        task["data_digest"] = tasks.data_digest(definition, task["labels"], splits)
        manifest["data_digest"] = task["data_digest"]
    except (KeyError, TypeError, AttributeError, LimpetError):
        pass  # it has no form that a digest could be of
    return sealed(ground.revised | {"task.json": canonical_json(task), "manifest.json": signed(manifest)})


def _manifest_case(ground: Field, draw: st.DrawFn) -> bytes:
    """The manifest says something else, and its digest is that of what it says."""
    manifest = draw(altered(json.loads(ground.entries["manifest.json"])))
    if isinstance(manifest, dict) and draw(st.integers(0, 3)):
        return sealed(ground.entries | {"manifest.json": signed(manifest)})
    if draw(st.booleans()):
        return sealed(ground.entries | {"manifest.json": canonical_json(manifest)})
    return sealed(ground.entries | {"manifest.json": draw(damaged(ground.entries["manifest.json"]))})


def _tensors_case(ground: Field, draw: st.DrawFn) -> bytes:
    """A safetensors file of another header or length, under a manifest that was made for it."""
    content = draw(tensors_file(ground.entries["adapter_model.safetensors"]))
    return sealed(resealed(ground.entries, adapter_model_safetensors=content))


@st.composite
def tensors_file(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes like those of a safetensors file."""
    (length,) = struct.unpack("<Q", sound[:8])
    header, buffer = sound[8 : 8 + length], sound[8 + length :]
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(damaged(sound))
    if kind == 1:
        return draw(st.binary(max_size=200))
    header = canonical_json(draw(altered(json.loads(header)))) if kind == 2 else draw(damaged(header))
    claimed = draw(st.sampled_from([len(header), len(header), len(header), 0, 2**63, len(header) + 1]))
    return struct.pack("<Q", claimed) + header + buffer


FUZZERS = {
    "bytes": _bytes_case,
    "list": _list_case,
    "documents": _document_case,
    "revision": _revision_case,
    "manifest": _manifest_case,
    "tensors": _tensors_case,
}


def _fuzz(ground: Field, name: str, cases: int) -> None:
    ground.counts.clear()
    began = time.monotonic()

    @_limited(cases)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        ground.bring(FUZZERS[name](ground, data.draw))

    run()
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(ground.counts.items()))
    print(f"\nfuzzer {name}: {ground.counts.total()} cases in {time.monotonic() - began:.0f} s: {told}")
    assert ground.counts.total() >= cases
    # cases that are nearly right are taken in now and then: the fuzzer reaches behind the first check
    assert ground.counts["refused"] > cases / 2


@pytest.mark.parametrize("name", FUZZERS)
def test_what_comes_in_is_taken_in_whole_or_refused_without_a_trace(ground: Field, name: str) -> None:
    _fuzz(ground, name, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZERS)
def test_more_than_a_hundred_thousand_cases_are_taken_in_whole_or_refused_without_a_trace(
    ground: Field, name: str
) -> None:
    _fuzz(ground, name, SLOW)


def test_what_passes_here_opens_in_the_library_too(ground: Field) -> None:
    file = ground.folder / "tensors"

    @_limited(300)
    @given(tensors_file(ground.entries["adapter_model.safetensors"]))
    def run(content: bytes) -> None:
        file.write_bytes(content)
        try:
            header = check_header(file)
        except LimpetError:
            return
        try:
            read = deserialize(content)
        except SafetensorError as error:
            pytest.fail(f"accepted here, refused there: {error}")
        assert {name: tuple(tensor["shape"]) for name, tensor in read} == {
            name: shape for name, (_, shape) in header.items()
        }

    run()
