"""What was done to other model registries, tried here; each test is named by the attack.

The classes come from published vulnerabilities: path traversal in names and sources, past one sanitiser after another
(CVE-2023-1177, 2023-2780, 2024-1560, 2024-3848, 2025-11201); archives that write where they like (2025-15031,
2025-15036); pickle opened by one loader out of many (2024-37055 to 37060); bombs; a check skipped by a tag
(2026-2614).
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import pickle
import shutil
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import limpet
from limpet.cli import cli
from limpet.errors import ConflictError, IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.names import check_name, parse_reference
from limpet.registry import versions
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import blob_key
from limpet.registry.exchange import bundle_format, export_import
from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.registry.records import tasks
from limpet.registry.store import Store, open_store
from limpet.registry.verification.verify import verify
from limpet.registry.versions import VersionQuery, alias_history, aliases, notes, tags
from tests.registry.exchange.bundles import (
    a_home,
    adapter_files,
    add_sound_version,
    entries_of,
    exported,
    index_of,
    member,
    resealed,
    safetensors,
    sealed,
    signed,
)
from tests.registry.homes import draft, stock

TRAVERSALS = {
    "parent": "../evil",
    "parent twice": "../../evil",
    "parent alone": "..",
    "here": ".",
    "home": "~root",
    "absolute": "/etc/passwd",
    "below": "a/b",
    "backslashes": "..\\..\\evil",
    "drive": "c:\\evil",
    "drive without slash": "c:evil",
    "unc": "\\\\server\\share",
    "encoded dots": "%2e%2e%2fevil",
    "encoded twice": "%252e%252e%252fevil",
    "encoded slash": "..%2fevil",
    "overlong utf-8": "%c0%ae%c0%ae%c0%afevil",
    "fragment": "evil#../../x",
    "query": "evil?../../x",
    "url": "file:///etc/passwd",
    "null byte": "evil\0.json",
    "line end": "evil\nx",
    "fullwidth dots": "\uff0e\uff0e\uff0fevil",
    "one dot leaders": "\u2024\u2024\u2215evil",
    "division slash": "a\u2215b",
    "cyrillic a": "n\u0435ws",
    "combining": "news\u0301",
    "right to left": "a\u202egnp.json",
    "zero width": "ne\u200bws",
    "half a surrogate": "a\ud800",
    "empty": "",
    "long": "a" * 129,
}
INJECTIONS = {
    "sql quote": "news' OR '1'='1",
    "sql comment": "news'; DROP TABLE versions; --",
    "shell": "$(touch pwned)",
    "backticks": "`touch pwned`",
    "option": "--force",
    "format string": "{0.__class__.__init__.__globals__}",
    "percent": "%s%n%x",
    "template": "{{7*7}}",
    "escape sequence": "\x1b]0;owned\x07",
}


def _snapshot(folder: Path, but: Path | None = None) -> dict[str, tuple[str, bytes]]:
    """Return kind and content of everything in a folder, except below `but`."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in folder.rglob("*"):
        if but is not None and path.is_relative_to(but):
            continue
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file" if path.is_file() else "other"
        content = str(path.readlink()).encode() if kind == "link" else path.read_bytes() if kind == "file" else b""
        found[str(path.relative_to(folder))] = (kind, content)
    return found


@dataclass(frozen=True)
class Field:
    """What is attacked: a folder with two homes in it and things around them that must stay as they are.

    `target` knows the base and nothing else; `stocked` has the tasks news and films, and the sound version news@1;
    `entries` are those of its bundle. Tests that are refused leave the whole folder as it was.
    """

    folder: Path
    target: Store
    stocked: Store
    entries: dict[str, bytes]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    folder = tmp_path_factory.mktemp("attacked") / "sandbox"
    folder.mkdir()
    (folder / "secret.json").write_text('{"password": "barnacle"}')
    (folder / "evil").mkdir()
    stocked = stock(folder / "stocked")
    add_sound_version(stocked, seed=3)
    bundled = exported(stocked, folder.parent / "sound.limpet")
    return Field(folder, a_home(folder / "home"), stocked, entries_of(bundled, folder.parent / "entries"))


@pytest.fixture
def target(field: Field) -> Iterator[Store]:
    """A home that knows the base and nothing else; it is the same after every test."""
    before = _snapshot(field.folder)
    yield field.target
    assert _snapshot(field.folder) == before


@pytest.fixture
def stocked(field: Field) -> Iterator[Store]:
    """A home with the tasks news and films and the version news@1; it is the same after every test."""
    before = _snapshot(field.folder)
    yield field.stocked
    assert _snapshot(field.folder) == before


@pytest.fixture
def entries(field: Field) -> dict[str, bytes]:
    """The entries of a sound bundle."""
    return field.entries


@pytest.fixture
def sandbox(field: Field, tmp_path: Path) -> Iterator[Path]:
    """A copy of the folder, to change the home in it; nothing around that home changes."""
    folder = tmp_path / "sandbox"
    shutil.copytree(field.folder, folder)
    before = _snapshot(folder, but=folder / "stocked")
    yield folder
    assert _snapshot(folder, but=folder / "stocked") == before


@pytest.fixture
def own(sandbox: Path) -> Store:
    """A home of the test's own, with news and films and the version news@1."""
    return open_store(sandbox / "stocked")


def _refused(store: Store, content: bytes, tmp_path: Path) -> LimpetError:
    """Import a bundle of these bytes; insist that it is refused, quickly."""
    file = tmp_path / "attack.limpet"
    file.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(LimpetError) as refused:
        export_import.import_bundle(store, file)
    assert time.monotonic() - began < 5
    assert refused.value.exit_code in (1, 3, 4, 5)
    return refused.value


def _limpet(store: Store, *words: str, actor: str | None = None) -> tuple[int, str]:
    """Call the command line in this process; return the exit code and all that was printed."""
    environment = {"LIMPET_ACTOR": actor} if actor else {}
    result = CliRunner().invoke(cli, ["--home", str(store.path), *words], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout + result.stderr


def test_the_sound_bundle_that_the_attacks_are_made_of_is_taken_in(entries: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "sound.limpet").write_bytes(sealed(entries))
    assert export_import.import_bundle(a_home(tmp_path / "home"), tmp_path / "sound.limpet")[1]
    assert resealed(entries) == entries


# names


@pytest.mark.parametrize("name", (TRAVERSALS | INJECTIONS).values(), ids=(TRAVERSALS | INJECTIONS).keys())
def test_a_name_that_leads_elsewhere(stocked: Store, name: str) -> None:
    news = tasks.get(stocked, "news")
    attempts: list[Callable[[], object]] = [
        lambda: check_name("task", name),
        lambda: parse_reference(f"{name}@1"),
        lambda: parse_reference(f"news@{name}"),
        lambda: tasks.add(stocked, replace(news, definition=replace(news.definition, name=name))),
        lambda: versions.register(stocked, draft(name), {"head.json": stocked.path / "limpet.toml"}),
        lambda: versions.resolve(stocked, f"{name}@1"),
        lambda: versions.find(stocked, VersionQuery(task=name)),
        lambda: aliases.promote(stocked, "news@1", name),
        lambda: aliases.rollback(stocked, "news", name),
        lambda: tags.change(stocked, "news@1", {name: "x"}),
        lambda: export_import.export(stocked, f"{name}@1", stocked.path / "out"),
    ]
    for attempt in attempts:
        with pytest.raises((UsageError, NotFoundError)):
            attempt()


@pytest.mark.parametrize("name", TRAVERSALS.values(), ids=TRAVERSALS.keys())
def test_a_file_name_that_leads_elsewhere(
    target: Store, stocked: Store, entries: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"{}")
    for attempt in (name, f"{name}.json", "manifest.json", f"{name}/../x.json"):
        if attempt == "..json":
            continue
        with pytest.raises(UsageError):
            versions.register(stocked, draft(), {attempt: file})
    # the same in a bundle: listed, and with the header that tar would have
    content = b"{}"
    for attempt in (name, f"{name}.json"):
        if not attempt.isprintable() and "\ud800" in attempt:
            continue
        listed = index_of(entries)
        listed["entries"] = sorted(
            [*listed["entries"], {"name": attempt, "digest": digest_bytes(content), "size": 2}],
            key=lambda entry: str(entry["name"]),
        )
        everything = sorted([*entries.items(), (attempt, content)])
        made = member("bundle.json", canonical_json(listed)) + b"".join(member(*one) for one in everything)
        assert isinstance(_refused(target, made + bytes(1024), tmp_path), IntegrityError)


@pytest.mark.parametrize("name", TRAVERSALS.values(), ids=TRAVERSALS.keys())
def test_a_manifest_that_names_a_file_elsewhere(
    target: Store, entries: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    manifest = json.loads(entries["manifest.json"])
    if "\ud800" in name:
        return
    for place in ("task", "method", "parent", "role", "base_digest", "created_at"):
        _refused(target, sealed(entries | {"manifest.json": signed(manifest | {place: name})}), tmp_path)
    files = [*manifest["files"], {"name": name, "digest": digest_bytes(b"{}"), "size": 2}]
    _refused(target, sealed(entries | {"manifest.json": signed(manifest | {"files": files})}), tmp_path)


DIGESTS = {
    "parent": "sha256:../../../../etc/passwd",
    "slash inside": f"sha256:{'a' * 40}/../{'a' * 20}",
    "upper case": f"sha256:{'A' * 64}",
    "line end": f"sha256:{'a' * 64}\n",
    "other kind": f"md5:{'a' * 64}",
    "null": f"sha256:{'a' * 63}\0",
    "digits of another script": "sha256:" + "\u0661" * 64,
    "empty": "",
}


@pytest.mark.parametrize("digest", DIGESTS.values(), ids=DIGESTS.keys())
def test_a_digest_that_is_a_path(target: Store, entries: dict[str, bytes], digest: str, tmp_path: Path) -> None:
    for read in (target.blobs.read, target.blobs.path, target.blobs.exists, target.blobs.rehash, target.blobs.size):
        with pytest.raises(IntegrityError):
            read(digest)
    manifest = json.loads(entries["manifest.json"])
    files = [file | {"digest": digest} for file in manifest["files"]]
    _refused(target, sealed(entries | {"manifest.json": signed(manifest | {"files": files})}), tmp_path)
    task = json.loads(entries["task.json"])
    splits = [split | {"digest": digest} for split in task["splits"]]
    _refused(target, sealed(entries | {"task.json": canonical_json(task | {"splits": splits})}), tmp_path)
    listed = index_of(entries)
    listed["entries"][0]["digest"] = digest
    _refused(target, sealed(entries, entries=listed["entries"]), tmp_path)


@pytest.mark.parametrize("spec", ["sample:../../evil", "sample:..%2fevil", "sample:a\0b", "hub:../../evil", "../x#y"])
def test_a_source_that_leads_elsewhere(
    spec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: Store
) -> None:
    from limpet.training.base import locate
    from limpet.training.data.reading.sources import read_source

    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    with pytest.raises((UsageError, NotFoundError)):
        locate.resolve(spec)
    with pytest.raises((UsageError, NotFoundError)):
        read_source(spec, None, None, target_columns=("label",))


# links and devices


def test_a_blob_that_is_a_link_is_found_and_its_bytes_are_not_believed(own: Store, sandbox: Path) -> None:
    version = versions.resolve(own, "news@1")
    assert isinstance(own.blobs, LocalBlobs)
    blob = own.blobs.root / blob_key(version.files[0].digest)
    blob.unlink()
    blob.symlink_to(sandbox / "secret.json")
    with pytest.raises(IntegrityError):
        versions.files(own, version)
    assert {problem.kind for problem in verify(own)} >= {"stray"}


def test_storing_over_a_planted_link_replaces_the_link_and_not_what_it_points_at(own: Store, sandbox: Path) -> None:
    assert isinstance(own.blobs, LocalBlobs)
    data = b"limpet"
    blob = own.blobs.root / blob_key(digest_bytes(data))
    blob.parent.mkdir(parents=True)
    blob.symlink_to(sandbox / "secret.json")
    own.blobs.put_bytes(data)
    assert own.blobs.read(digest_bytes(data)) == data
    assert not blob.is_symlink()


def test_a_pipe_in_the_place_of_a_blob_keeps_nobody_waiting(own: Store) -> None:
    version = versions.resolve(own, "news@1")
    assert isinstance(own.blobs, LocalBlobs)
    blob = own.blobs.root / blob_key(version.files[0].digest)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(IntegrityError):
        versions.files(own, version)
    assert verify(own)


def test_an_export_onto_a_link_writes_nothing_behind_it(own: Store, sandbox: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name, place in (
        ("folder", sandbox / "evil"),
        ("hole", sandbox / "nowhere"),
        ("file", sandbox / "secret.json"),
    ):
        for suffix in ("", ".limpet"):
            (out / f"{name}{suffix}").symlink_to(place)
    for name in ("folder", "hole", "file"):
        with pytest.raises(ConflictError):
            export_import.export(own, "news@1", out / name)
        with pytest.raises(ConflictError):
            export_import.export_bundle(own, "news@1", out / f"{name}.limpet")
    assert all(path.is_symlink() for path in out.iterdir())


@pytest.mark.parametrize("kind", ["link to a file", "link to nowhere", "pipe", "folder"])
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "head.json"])
def test_a_peft_folder_with_a_link_or_a_device(field: Field, tmp_path: Path, kind: str, name: str) -> None:
    from limpet.training.adoption import peft_folder

    folder, copies = tmp_path / "peft", tmp_path / "copies"
    folder.mkdir()
    copies.mkdir()
    for file, content in adapter_files().items():
        (folder / file).write_bytes(content)
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    elif kind == "folder":
        (folder / name).mkdir()
    else:
        (folder / name).symlink_to(field.folder / ("secret.json" if kind == "link to a file" else "nowhere"))
    names = ("adapter_config.json", "adapter_model.safetensors", "head.json")
    if "link" in kind:
        with pytest.raises(UsageError, match="is a link"):
            peft_folder.copy_files(folder, names, copies)
    else:
        peft_folder.copy_files(folder, names, copies)
    assert not (copies / name).exists()


# archives

_TYPES = {
    "hard link": b"1",
    "symbolic link": b"2",
    "character device": b"3",
    "block device": b"4",
    "folder": b"5",
    "pipe": b"6",
    "contiguous file": b"7",
    "old regular file": b"\0",
    "gnu long name": b"L",
    "gnu long link": b"K",
    "gnu sparse": b"S",
    "gnu multi-volume": b"M",
    "gnu volume header": b"V",
    "pax header": b"x",
    "pax global header": b"g",
    "solaris header": b"X",
    "unknown": b"Z",
}
_FIELDS = {
    "setuid": {"mode": b"0004755\0"},
    "owner": {"uid": b"0000001\0"},
    "group": {"gid": b"0000001\0"},
    "time": {"mtime": b"00000000001\0"},
    "user name": {"uname": b"root"},
    "group name": {"gname": b"root"},
    "link name": {"linkname": b"/etc/passwd"},
    "gnu magic": {"magic": b"ustar  \0"},
    "no magic": {"magic": b"\0" * 8},
    "prefix": {"prefix": b"../../.."},
    "device numbers": {"major": b"0000001\0"},
    "size in base 256": {"size": b"\x80" + bytes(10) + b"\x02"},
    "negative size": {"size": b"\xff" * 12},
    "size with spaces": {"size": b"         2 \0"},
    "size of petabytes": {"size": b"\x80" + b"\0\0\0\0\x10\0\0\0\0\0\0"},
    "other name": {"name": b"../../evil.json"},
    "name with a tail": {"name": b"head.json\0/../../evil"},
}


@pytest.mark.parametrize("fields", [{"type": kind} for kind in _TYPES.values()], ids=_TYPES.keys())
@pytest.mark.parametrize("attacked", ["bundle.json", "head.json"])
def test_an_archive_with_an_entry_that_is_no_file(
    target: Store, entries: dict[str, bytes], fields: dict[str, bytes], attacked: str, tmp_path: Path
) -> None:
    _refused(target, _with_header(entries, attacked, fields | {"linkname": b"/etc/passwd"}), tmp_path)
    _refused(target, _with_header(entries, attacked, fields), tmp_path)


@pytest.mark.parametrize("fields", _FIELDS.values(), ids=_FIELDS.keys())
@pytest.mark.parametrize("attacked", ["bundle.json", "head.json"])
def test_an_archive_with_a_header_that_limpet_never_writes(
    target: Store, entries: dict[str, bytes], fields: dict[str, bytes], attacked: str, tmp_path: Path
) -> None:
    _refused(target, _with_header(entries, attacked, fields), tmp_path)


def _with_header(entries: dict[str, bytes], attacked: str, fields: dict[str, bytes]) -> bytes:
    members = [("bundle.json", canonical_json(index_of(entries))), *sorted(entries.items())]
    return b"".join(member(name, data, **(fields if name == attacked else {})) for name, data in members) + bytes(
        1024
    )


_SHAPES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda sound: b"",
    "an empty archive": lambda sound: bytes(1024),
    "zeros": lambda sound: bytes(10240),
    "no end": lambda sound: sound[:-1024],
    "half an end": lambda sound: sound[:-512],
    "a third block of zeros": lambda sound: sound + bytes(512),
    "padded as tar pads": lambda sound: sound + bytes(-len(sound) % 10240 or 10240),
    "more behind the end": lambda sound: sound + member("evil.json", b"{}") + bytes(1024),
    "an unlisted entry at the end": lambda sound: sound[:-1024] + member("evil.json", b"{}") + bytes(1024),
    "an unlisted entry in front": lambda sound: member("evil.json", b"{}") + sound,
    "the same entry twice": lambda sound: sound[:-1024] + member("task.json", b"{}") + bytes(1024),
    "two archives": lambda sound: sound + sound,
    "one byte more": lambda sound: sound + b"\0",
    "one byte less": lambda sound: sound[:-1],
    "padding that is not zeros": lambda sound: sound[: -1024 - 1] + b"\1" + sound[-1024:],
    "an end that is not zeros": lambda sound: sound[:-1] + b"\1",
    "a wrong checksum": lambda sound: sound[:148] + b"0000000" + sound[155:],
    "zip": lambda sound: _zip({"bundle.json": b"{}", "../../evil.json": b"{}"}),
    "zip of a bundle": lambda sound: _zip({"news.limpet": sound}),
    "gzip": lambda sound: gzip.compress(sound),
    "gzip cut to blocks": lambda sound: (gzip.compress(sound) + bytes(512 * 8))[: 512 * 8],
    "a bomb of gzip": lambda sound: gzip.compress(bytes(50 << 20)),
    "text": lambda sound: b"not an archive\n" * 512,
}


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("change", _SHAPES.values(), ids=_SHAPES.keys())
def test_an_archive_of_another_shape(
    target: Store, entries: dict[str, bytes], change: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    assert isinstance(_refused(target, change(sealed(entries)), tmp_path), IntegrityError)


@pytest.mark.parametrize(
    "name", ["head.json", "adapter_model.safetensors", "manifest.json", "task.json", "base.json"]
)
def test_an_archive_whose_list_and_entries_differ(
    target: Store, entries: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    listed = index_of(entries)["entries"]
    without = [entry for entry in listed if entry["name"] != name]
    # in the archive but not in the list, in the list but not in the archive, in neither, listed twice, out of order
    _refused(target, sealed(entries, entries=without), tmp_path)
    _refused(target, sealed({n: c for n, c in entries.items() if n != name}, entries=listed), tmp_path)
    _refused(target, sealed({n: c for n, c in entries.items() if n != name}), tmp_path)
    _refused(target, sealed(entries, entries=[*without, *[e for e in listed if e["name"] == name] * 2]), tmp_path)
    _refused(target, sealed(entries, entries=listed[::-1]), tmp_path)
    changed = entries | {name: entries[name][:-1] + b"x"}
    _refused(target, sealed(changed, entries=listed), tmp_path)


def test_an_archive_whose_entries_are_listed_twice_or_out_of_order_and_come_so(
    target: Store, entries: dict[str, bytes], tmp_path: Path
) -> None:
    for order in ([*sorted(entries), "task.json"], ["task.json", *sorted(entries)], sorted(entries)[::-1]):
        listed = [{"name": n, "digest": digest_bytes(entries[n]), "size": len(entries[n])} for n in order]
        members = b"".join(member(name, entries[name]) for name in order)
        made = member("bundle.json", canonical_json(index_of(entries, entries=listed))) + members + bytes(1024)
        assert "order of their names" in _refused(target, made, tmp_path).message


def test_an_entry_that_the_manifest_does_not_list(target: Store, entries: dict[str, bytes], tmp_path: Path) -> None:
    for name in ("extra.json", "model.safetensors", "data-test.jsonl"):
        assert "not listed" in _refused(target, sealed(entries | {name: b"{}"}), tmp_path).message


@pytest.mark.parametrize(
    "name",
    ["model.bin", "adapter_model.bin", "head.pt", "x.pkl", "x.py", "x.so", "x", "x.json.gz", "x.JSON", ".x.json"],
)
def test_an_entry_of_another_kind_than_json_and_safetensors(
    target: Store, entries: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    assert "can't be in a bundle" in _refused(target, sealed(entries | {name: b"{}"}), tmp_path).message


# bombs


def test_a_file_that_is_too_large_is_not_read(target: Store, tmp_path: Path) -> None:
    file = tmp_path / "large.limpet"
    with file.open("wb") as hollow:
        hollow.truncate(bundle_format.LARGEST_BUNDLE + 512)
    began = time.monotonic()
    with pytest.raises(IntegrityError, match="more than"):
        export_import.import_bundle(target, file)
    assert time.monotonic() - began < 1


def test_sizes_that_claim_petabytes(target: Store, entries: dict[str, bytes], tmp_path: Path) -> None:
    for size in (2**50, 2**63, 2**64, 10**400, -1, True, 1.5, "1", None):
        listed = index_of(entries)["entries"]
        listed[0] |= {"size": size}
        _refused(target, sealed(entries, entries=listed), tmp_path)
    huge = safetensors({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    _refused(target, sealed(resealed(entries, adapter_model_safetensors=huge)), tmp_path)


def test_more_entries_than_a_version_has(target: Store, entries: dict[str, bytes], tmp_path: Path) -> None:
    many = entries | {f"extra-{number}.json": b"{}" for number in range(bundle_format.MOST_ENTRIES)}
    assert "at most 64" in _refused(target, sealed(many), tmp_path).message
    index = canonical_json(index_of(entries) | {"padding": "x" * (64 << 10)})
    assert "claims" in _refused(target, member("bundle.json", index) + bytes(1024), tmp_path).message


def test_a_json_document_that_is_too_large(target: Store, entries: dict[str, bytes], tmp_path: Path) -> None:
    large = b'"' + b"x" * bundle_format.LARGEST_JSON + b'"'
    assert "head.json has" in _refused(target, sealed(resealed(entries, head_json=large)), tmp_path).message


def test_lists_that_need_thirty_times_the_memory_of_their_text(
    target: Store, entries: dict[str, bytes], tmp_path: Path
) -> None:
    bomb = b"[" + b",".join([b"[]"] * 1_000_000) + b"]"
    names = [f"bomb{number}_json" for number in range(4)]
    listed = sealed(resealed(entries, **dict.fromkeys(names, bomb)))
    unlisted = sealed(entries | {name.replace("_", "."): bomb for name in names})
    tracemalloc.start()
    try:
        assert "may hold more than" in _refused(target, listed, tmp_path).message
        assert "not listed" in _refused(target, unlisted, tmp_path).message
        # each bomb is 3 MB of text and 64 MB of lists
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


_DOCUMENTS = {
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep tables": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "a little too deep": b"[" * 40 + b"]" * 40,
    "a number of a million digits": b"1" * 1_000_000,
    "not a number": b"[NaN]",
    "infinity": b"[1e999]",
    "a key twice": b'{"a":1,"a":2}',
    "half a surrogate": b'["\\ud800"]',
    "not utf-8": b'["\xff"]',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "nothing": b"",
    "two values": b"{}{}",
    "a comment": b"{} // x",
    "python": b"__import__('os').system('touch pwned')",
    "yaml": b"!!python/object/apply:os.system ['touch pwned']",
}


@pytest.mark.parametrize("content", _DOCUMENTS.values(), ids=_DOCUMENTS.keys())
@pytest.mark.parametrize(
    "name", ["head.json", "manifest.json", "labels.json", "task.json", "base.json", "probe.json"]
)
def test_a_document_that_is_no_plain_json(
    target: Store, entries: dict[str, bytes], name: str, content: bytes, tmp_path: Path
) -> None:
    changed = resealed(entries, head_json=content) if name == "head.json" else entries | {name: content}
    assert isinstance(_refused(target, sealed(changed), tmp_path), IntegrityError)


@pytest.mark.parametrize("content", _DOCUMENTS.values(), ids=_DOCUMENTS.keys())
def test_a_list_of_entries_that_is_no_plain_json(target: Store, content: bytes, tmp_path: Path) -> None:
    _refused(target, member("bundle.json", content) + bytes(1024), tmp_path)


def test_tensors_whose_shapes_keep_a_processor_busy(target: Store, entries: dict[str, bytes], tmp_path: Path) -> None:
    shape = [2**62] * 200_000
    bomb = safetensors({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}, b"1234")
    _refused(target, sealed(resealed(entries, adapter_model_safetensors=bomb)), tmp_path)


# what peft would do with its configuration

_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "a module to import": {"megatron_config": {"a": 1}, "megatron_core": "evil"},
    "a library to import": {"auto_mapping": {"base_model_class": "x", "parent_library": "evil"}},
    "layers to copy": {"layer_replication": [[0, 9], [0, 9]]},
    "weights to change": {"init_lora_weights": "pissa"},
    "biases to change": {"bias": "all"},
    "memory to fill": {"r": 10**9},
    "memory to fill, by a pattern": {"rank_pattern": {"query": 10**9}},
    "a pattern that takes for ever": {"target_modules": "(a|aa)+$"},
    "another pattern that takes for ever": {"target_modules": ".*.*.*.*.*.*.*.*x"},
    "a pattern among ranks": {"rank_pattern": {"(a+)+$": 2}},
    "no kind": {"peft_type": None},
    "a kind that is a path": {"peft_type": "../LORA"},
    "a kind that is not the method's": {"peft_type": "IA3"},
    "a pickle to open": {
        "peft_type": "MULTITASK_PROMPT_TUNING",
        "prompt_tuning_init": "ONLY_SOURCE_SHARED",
        "prompt_tuning_init_state_dict_path": "/tmp/evil.bin",
    },
    "adapters to load": {"peft_type": "XLORA", "adapters": {"0": "/tmp/evil"}},
    "modules to copy": {"modules_to_save": ["embeddings"]},
    "a tokenizer to fetch": {"tokenizer_name_or_path": "attacker/beacon"},
    "code of a tokenizer to run": {"tokenizer_kwargs": {"trust_remote_code": True}},
    "a field that nobody knows": {"fetch_from": "https://attacker.example"},
    "a pattern that takes for ever, elsewhere": {"feedforward_modules": "(a+)+$"},
}


@pytest.mark.parametrize("change", _CONFIGURATIONS.values(), ids=_CONFIGURATIONS.keys())
def test_a_configuration_that_makes_peft_do_more_than_load(
    target: Store, entries: dict[str, bytes], change: dict[str, Any], tmp_path: Path
) -> None:
    config = json.loads(entries["adapter_config.json"]) | change
    changed = resealed(entries, adapter_config_json=json.dumps(config).encode())
    assert "adapter_config.json" in _refused(target, sealed(changed), tmp_path).message


@pytest.mark.parametrize("kind", ["MULTITASK_PROMPT_TUNING", "XLORA", "PROMPT_TUNING", "POLY"])
def test_a_configuration_of_another_kind_than_the_method(
    target: Store, entries: dict[str, bytes], kind: str, tmp_path: Path
) -> None:
    config = json.loads(entries["adapter_config.json"]) | {"peft_type": kind}
    changed = resealed(entries, adapter_config_json=json.dumps(config).encode())
    assert f"of peft type {kind!r}" in _refused(target, sealed(changed), tmp_path).message
    manifest = json.loads(changed["manifest.json"])
    told = changed | {"manifest.json": signed(manifest | {"method": f"peft:{kind.lower()}"})}
    assert "adapter_config.json" in _refused(target, sealed(told), tmp_path).message


# pickle


class _Bomb:
    """Unpickled, it makes the file `mark`."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that is made when a bomb is unpickled; it must not be there in the end."""
    file = tmp_path / "pwned"
    pickle.loads(pickle.dumps(_Bomb(file)))
    # the bomb works
    assert file.exists()
    file.unlink()
    yield file
    assert not file.exists()


def test_pickle_under_the_name_of_tensors(
    target: Store, entries: dict[str, bytes], mark: Path, tmp_path: Path
) -> None:
    bomb = pickle.dumps(_Bomb(mark))
    for name in ("adapter_model_safetensors", "head_safetensors", "head_json", "adapter_config_json"):
        _refused(target, sealed(resealed(entries, **{name: bomb})), tmp_path)
    for name in ("manifest.json", "task.json", "base.json", "labels.json", "probe.json"):
        _refused(target, sealed(entries | {name: bomb}), tmp_path)
    _refused(target, bomb.ljust(4096, b"\0"), tmp_path)


def test_pickle_beside_the_tensors_of_a_folder_is_never_opened(
    tmp_path: Path, base_folder: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tiny import tiny_csv
    from tests.training.adoption.test_adopt import plain_backbone

    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    bomb = pickle.dumps(_Bomb(mark))
    base = tmp_path / "base"
    shutil.copytree(base_folder, base)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (base / name).write_bytes(bomb)
    home = limpet.init(tmp_path / "home", base=str(base), mlflow="off")
    home.task.add("place", f"csv:{tiny_csv(tmp_path / 'place.csv')}", max_length=16)
    folder = plain_backbone(base, tmp_path / "elsewhere")
    for name in ("adapter_model.bin", "adapter_model.pt", "pytorch_model.bin", "head.pt", "rng_state.pth", "x.pkl"):
        (folder / name).write_bytes(bomb)
    version = home.adapter.register("place", folder).version
    assert {Path(file.name).suffix for file in version.files} == {".json", ".safetensors"}
    (folder / "adapter_model.safetensors").write_bytes(bomb)
    with pytest.raises(IntegrityError):
        home.adapter.register("place", folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(NotFoundError):
        home.adapter.register("place", folder)
    (base / "model.safetensors").unlink()
    with pytest.raises(LimpetError):
        home.predict("place", ["a wave"])


def test_no_line_of_limpet_opens_pickle_or_runs_what_it_reads() -> None:
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    calls = {"eval", "exec", "torch.load", "yaml.load", "np.load", "numpy.load", "tarfile.open", "os.system"}
    for path in sorted(Path(limpet.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.partition(".")[0] for alias in node.names}
                names.add((getattr(node, "module", None) or "").partition(".")[0])
                assert not names & forbidden, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in calls and not called.endswith((".extractall", ".extract")), f"{path}: {called}"
                assert not any(keyword.arg == "shell" for keyword in node.keywords), path


def test_no_line_of_limpet_lets_transformers_run_or_offer_code() -> None:
    found = 0
    for path in sorted((Path(limpet.__file__).parent / "training").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".from_pretrained", ".from_config")):
                said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert said.get("trust_remote_code") == "False", f"{path}: {ast.unparse(node)}"
                found += 1
    assert found >= 8


# checks that somebody would like to skip

_PASSWORDS = {"verified": True, "skip_checks": True, "trusted": "true", "verify": False, "mlflow.skip": "1"}


@pytest.mark.parametrize("asking", ["lineage", "config", "metrics", "cost"])
def test_a_field_that_asks_for_trust_turns_no_check_off(
    target: Store, entries: dict[str, bytes], asking: str, tmp_path: Path
) -> None:
    manifest = json.loads(entries["manifest.json"])
    trusting = entries | {"manifest.json": signed(manifest | {asking: manifest[asking] | _PASSWORDS})}
    rotten = trusting["adapter_model.safetensors"][:-1] + b"x"
    listed = index_of(trusting)["entries"]
    # other bytes than listed, than in the manifest, and of an unsound form
    _refused(target, sealed(trusting | {"adapter_model.safetensors": rotten}, entries=listed), tmp_path)
    _refused(target, sealed(trusting | {"adapter_model.safetensors": rotten}), tmp_path)
    _refused(target, sealed(resealed(trusting, adapter_model_safetensors=b"\0" * 64)), tmp_path)
    _refused(target, sealed(trusting | {"labels.json": b'["y","x"]'}), tmp_path)
    base = json.loads(trusting["base.json"]) | {"digest": digest_bytes(b"another")}
    refused = _refused(target, sealed(trusting | {"base.json": canonical_json(base)}), tmp_path)
    assert "base of base.json and of manifest.json differ" in refused.message
    version = {"task": "news", "digest": json.loads(trusting["manifest.json"])["digest"]}
    unsigned = canonical_json(json.loads(trusting["manifest.json"]) | {"digest": digest_bytes(b"")})
    refused = _refused(target, sealed(trusting | {"manifest.json": unsigned}, version=version), tmp_path)
    assert "digest of the manifest and of its content differ" in refused.message


@pytest.mark.parametrize("name", ["manifest.json", "task.json", "base.json"])
def test_a_field_that_limpet_does_not_know(
    target: Store, entries: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    for field in (*_PASSWORDS, "schema_version", "__class__", "tags"):
        changed = json.loads(entries[name]) | {field: True}
        content = signed(changed) if name == "manifest.json" else canonical_json(changed)
        assert "is unknown" in _refused(target, sealed(entries | {name: content}), tmp_path).message
    for field, value in _PASSWORDS.items():
        _refused(target, sealed(entries, **{field: value}), tmp_path)


def test_tags_and_aliases_that_ask_for_trust_turn_no_check_off(own: Store) -> None:
    version = add_sound_version(own, seed=9, lineage=_PASSWORDS)
    for name in ("verified", "skip-checks", "mlflow.skip", "limpet.trusted"):
        tags.change(own, version.reference, {name: "true"})
        aliases.promote(own, version.reference, name)
    notes.add(own, version.reference, "verified: true")
    assert isinstance(own.blobs, LocalBlobs)
    blob = own.blobs.root / blob_key(version.files[0].digest)
    blob.chmod(0o644)
    blob.write_bytes(b"other bytes")
    with pytest.raises(IntegrityError):
        versions.files(own, versions.resolve(own, "news@verified"))
    with pytest.raises(IntegrityError):
        export_import.export_bundle(own, "news@verified", own.path / "out.limpet")
    assert any(problem.kind in ("changed", "size") for problem in verify(own))


def test_a_version_of_another_base_or_task_under_a_known_name(
    target: Store, entries: dict[str, bytes], tmp_path: Path
) -> None:
    manifest = json.loads(entries["manifest.json"])
    other = digest_bytes(b"another base")
    base = canonical_json(json.loads(entries["base.json"]) | {"digest": other})
    forged = entries | {"base.json": base, "manifest.json": signed(manifest | {"base_digest": other})}
    assert isinstance(_refused(target, sealed(forged), tmp_path), NotFoundError)
    for change in ({"data_digest": other}, {"labels": ["y", "x"]}, {"task": "films"}):
        _refused(target, sealed(entries | {"manifest.json": signed(manifest | change)}), tmp_path)
    # what is part of the identity can't be changed without its digest
    for change in ({"seed": 4}, {"config": {"max_length": 16}}, {"method": "full"}):
        _refused(target, sealed(entries | {"manifest.json": canonical_json(manifest | change)}), tmp_path)


def test_data_that_is_not_the_task_s(target: Store, entries: dict[str, bytes], tmp_path: Path) -> None:
    rows = {
        "another label": b'{"label":1,"text":"a"}\n',
        "no such label": b'{"label":7,"text":"a"}\n',
        "true as a label": b'{"label":true,"text":"a"}\n',
        "no text": b'{"label":0}\n',
        "more fields": b'{"label":0,"path":"../x","text":"a"}\n',
        "a list": b"[]\n",
        "no line end": b'{"label":0,"text":"a"}',
        "two lines": b'{"label":0,"text":"a"}\n' * 2,
    }
    for content in rows.values():
        task = json.loads(entries["task.json"])
        _refused(target, sealed(entries | {"data-train.jsonl": content}), tmp_path)
        # the same, with the digests of these bytes everywhere
        task["splits"][0]["digest"] = digest_bytes(content)
        forged = entries | {"data-train.jsonl": content, "task.json": canonical_json(task)}
        assert "and of its splits differ" in _refused(target, sealed(forged), tmp_path).message
        task["data_digest"] = _data_digest(task)
        manifest = signed(json.loads(entries["manifest.json"]) | {"data_digest": task["data_digest"]})
        changed = {"data-train.jsonl": content, "task.json": canonical_json(task), "manifest.json": manifest}
        _refused(target, sealed(entries | changed), tmp_path)


def _data_digest(task: dict[str, Any]) -> str:
    splits = {split["name"]: split["digest"] for split in task["splits"]}
    definition = task["definition"]
    parts = {"type": definition["type"], "metric": definition["metric"], "labels": task["labels"], "splits": splits}
    return digest_bytes(canonical_json(parts))


def test_a_base_whose_name_is_a_command_stands_in_no_hint(tmp_path: Path, entries: dict[str, bytes]) -> None:
    empty = a_home(tmp_path / "empty", base=False)
    for name in (
        "x; rm -rf ~",
        "a/../../x",
        "$(touch pwned)",
        "`id`",
        "-rf",
        "a b",
        "a\nb",
        "x'y",
        "x|y",
        "",
        "a" * 300,
    ):
        base = canonical_json(json.loads(entries["base.json"]) | {"name": name})
        refused = _refused(empty, sealed(entries | {"base.json": base}), tmp_path)
        assert isinstance(refused, IntegrityError)
        assert not name or name not in refused.hint


# text that another program acts on


@pytest.mark.parametrize(
    "where",
    [
        "score >= 0; DROP TABLE versions",
        "score >= 0 OR 1=1",
        "score >= 0) OR (1=1",
        "1=1",
        "id = 1",
        "score = (SELECT 1)",
        "score >= 0 --",
        "score >= 0 and manifest = x",
        "sqlite_version() = 3",
        "score >= 1e999",
        "score >= nan",
        "score >= 0x10",
        "score >= " + "9" * 5000,
        "\0",
        "",
        "score >= 0 and " * 2000,
    ],
    ids=lambda where: where[:30],
)
def test_sql_in_a_condition(stocked: Store, where: str) -> None:
    try:
        found = versions.find(stocked, VersionQuery(where=where))
    except LimpetError as refused:
        assert isinstance(refused, UsageError)
    else:
        assert found.items == ()
    assert len(versions.find(stocked).items) == 1


@pytest.mark.parametrize("value", INJECTIONS.values(), ids=INJECTIONS.keys())
def test_text_that_a_database_a_shell_or_a_formatter_acts_on_is_kept_as_it_is_or_refused(
    own: Store, value: str
) -> None:
    version = versions.resolve(own, "news@1")
    for keep, read in (
        (lambda: tags.change(own, "news@1", {"owner": value}), lambda: tags.get(own, "news@1")["owner"]),
        (lambda: notes.add(own, "news@1", value), lambda: notes.get(own, "news@1")[-1].text),
        (
            lambda: aliases.promote(own, version.reference, "live", reason=value),
            lambda: alias_history.moves(own, "news")[-1].reason,
        ),
    ):
        try:
            keep()
        except UsageError:
            assert "\x1b" in value
        else:
            assert read() == value
    assert (
        len(versions.find(own, VersionQuery(where=f'tag.owner = "{value}"')).items if '"' not in value else [1]) <= 1
    )
    assert versions.find(own).items != ()


def test_a_home_whose_path_is_a_format_string(tmp_path: Path) -> None:
    store = stock(tmp_path / "100%s %(here)s {0} $HOME")
    assert add_sound_version(store).reference == "news@1"
    assert verify(store) == ()


_RAW = "\x1b]0;owned\x07\x1b[2J \x9b31m \x7f \u202e\u2066 \u2028 \r"


def _is_clean(printed: str) -> bool:
    return not any(character in printed for character in "\x1b\x07\x9b\x7f\u202e\u2066\u2028\r")


def test_escape_sequences_in_an_imported_version_do_not_reach_the_terminal(
    entries: dict[str, bytes], tmp_path: Path
) -> None:
    target = a_home(tmp_path / "home")
    manifest = json.loads(entries["manifest.json"])
    task = json.loads(entries["task.json"])
    task["definition"] |= {"data": f"csv:{_RAW}", "text_column": _RAW}
    task["checks"] = {"notes": [_RAW]}
    environment = manifest["environment"] | {"device": _RAW, "torch": _RAW}
    changed = manifest | {
        "config": manifest["config"] | {_RAW: _RAW},
        "metrics": {"score": 0.5, _RAW: _RAW},
        "environment": environment,
        "lineage": {_RAW: [_RAW]},
    }
    made = sealed(entries | {"manifest.json": signed(changed), "task.json": canonical_json(task)})
    (tmp_path / "loud.limpet").write_bytes(made)
    for words in (
        ["adapter", "import", str(tmp_path / "loud.limpet")],
        ["adapter", "show", "news@1"],
        ["adapter", "list"],
        ["task", "show", "news"],
        ["task", "list"],
        ["log"],
    ):
        for form in ([], ["--json"]):
            code, printed = _limpet(target, *words, *form)
            assert code == 0, printed
            assert _is_clean(printed), (words, printed)
    code, printed = _limpet(target, "adapter", "show", "news@1", "--json")
    assert json.loads(printed)["config"][_RAW] == _RAW


def test_escape_sequences_in_arguments_and_names_of_people_do_not_reach_the_terminal(own: Store) -> None:
    for words in (
        ["adapter", "show", f"news@{_RAW}"],
        ["adapter", "promote", "news@1", _RAW],
        ["adapter", "promote", "news@1", "live", "--reason", _RAW],
        ["adapter", "promote", "news@1", "live"],
        ["adapter", "history", "news"],
        ["adapter", "tag", "news@1", f"owner={_RAW}"],
        ["adapter", "tag", "news@1", f"{_RAW}=x"],
        ["adapter", "note", "news@1", f"text{_RAW}text"],
        ["adapter", "note", "news@1", "a good one"],
        ["adapter", "show", "news@1"],
        ["adapter", "import", _RAW],
        ["adapter", "export", "news@1", str(own.path / "limpet.toml" / _RAW)],
        ["adapter", "list", "--where", _RAW],
        ["task", "show", _RAW],
        ["log"],
        [_RAW],
    ):
        for form in ([], ["--json"]):
            _, printed = _limpet(own, *words, *form, actor=f"ada{_RAW}")
            assert _is_clean(printed), (words, printed)
