"""Bundles: one version in one file, the same bytes each time, taken in whole by another home or not at all."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from limpet.errors import ConflictError, IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.home import Home
from limpet.registry import versions
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import blob_key
from limpet.registry.exchange import bundle_format, export_import
from limpet.registry.exchange.document_schemas import MANIFEST, MANIFEST_SINCE_0004, wrong_fields
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import bases, log, reference_outputs, tasks
from limpet.registry.store import Store
from limpet.registry.values import FileEntry
from limpet.registry.verification.verify import verify
from limpet.registry.versions import aliases, deletion
from tests.registry.exchange.bundles import (
    a_home,
    adapter_files,
    add_sound_version,
    entries_of,
    exported,
    keep_a_probe,
    sealed,
)
from tests.registry.homes import a_base, a_task, draft, stock

DOCUMENTS = {"base.json", "labels.json", "manifest.json", "probe.json", "task.json"}
SPLITS = {"data-train.jsonl", "data-validation.jsonl", "data-evaluation.jsonl"}


@pytest.fixture
def source(tmp_path: Path) -> Store:
    """A home with the sound version news@1."""
    store = stock(tmp_path / "source")
    add_sound_version(store, seed=3, metrics={"score": 0.75})
    return store


@pytest.fixture
def made(source: Store, tmp_path: Path) -> Path:
    """Its bundle."""
    return exported(source, tmp_path / "news.limpet")


@pytest.fixture
def target(tmp_path: Path) -> Store:
    """Another home, which knows the base and no task."""
    return a_home(tmp_path / "target")


# the file


def test_the_same_version_gives_the_same_bytes_each_time(source: Store, made: Path, tmp_path: Path) -> None:
    again = exported(source, tmp_path / "deep" / "again.limpet", "news@latest")
    assert again.read_bytes() == made.read_bytes()
    assert sealed(entries_of(made, tmp_path / "entries")) == made.read_bytes()


def test_a_bundle_holds_the_files_the_documents_and_the_data(source: Store, made: Path, tmp_path: Path) -> None:
    entries = entries_of(made, tmp_path / "entries")
    assert set(entries) == {*adapter_files(), *DOCUMENTS, *SPLITS}
    assert {name: entries[name] for name in adapter_files()} == adapter_files(3)
    with source.database.read() as session:
        (manifest,) = session.connection().exec_driver_sql("SELECT manifest FROM versions").scalars()
    assert entries["manifest.json"].decode() == manifest
    without = exported(source, tmp_path / "without.limpet", data=False)
    assert set(entries_of(without, tmp_path / "bare")) == {*adapter_files(), *DOCUMENTS}


def test_the_tar_of_every_system_lists_it(made: Path) -> None:
    with tarfile.open(made) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == ["bundle.json", *sorted({*adapter_files(), *DOCUMENTS, *SPLITS})]
    for member in members:
        assert (member.mode, member.uid, member.gid, member.mtime, member.uname, member.gname) == (
            0o644,
            0,
            0,
            0,
            "",
            "",
        )
        assert member.isreg()
    if tar := shutil.which("tar"):
        listed = subprocess.run([tar, "tf", made], capture_output=True, text=True, check=True)
        assert (listed.stdout.splitlines(), listed.stderr) == ([member.name for member in members], "")


def test_the_header_has_the_bytes_that_the_format_says(made: Path) -> None:
    data = made.read_bytes()
    assert len(data) % 512 == 0
    assert data[-1024:] == bytes(1024)
    expected = bytearray(512)
    size = int(data[124:135], 8)
    for start, field in (
        (0, b"bundle.json"),
        (100, b"0000644"),
        (108, b"0000000"),
        (116, b"0000000"),
        (124, b"%011o\0" % size),
        (136, b"00000000000\0"),
        (148, b" " * 8),
        (156, b"0"),
        (257, b"ustar\x0000"),
    ):
        expected[start : start + len(field)] = field
    expected[148:156] = b"%06o\0 " % sum(expected)
    assert data[:512] == bytes(expected)


def test_nothing_in_it_tells_of_this_machine_but_what_people_typed(tmp_path: Path) -> None:
    store = a_home(tmp_path / "home", base=False)
    location = {"kind": "folder", "path": str(tmp_path / "my rock")}
    bases.add(store, replace(a_base(str(tmp_path / "my rock")), location=location))
    tasks.add(store, a_task(store, "news"))
    add_sound_version(store)
    made = exported(store, tmp_path / "news.limpet")
    base = json.loads(entries_of(made, tmp_path / "entries")["base.json"])
    assert (base["name"], base["kind"], base["revision"]) == ("my-rock", "folder", None)
    assert str(tmp_path).encode() not in made.read_bytes()


def test_a_file_that_is_there_is_never_overwritten(source: Store, made: Path, tmp_path: Path) -> None:
    before = made.read_bytes()
    (tmp_path / "link.limpet").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.limpet").mkdir()
    for name in ("news.limpet", "link.limpet", "folder.limpet"):
        with pytest.raises(ConflictError):
            exported(source, tmp_path / name)
    assert made.read_bytes() == before
    assert not (tmp_path / "nowhere").exists()


def test_a_rotten_file_makes_no_bundle(source: Store, tmp_path: Path) -> None:
    assert isinstance(source.blobs, LocalBlobs)
    file = source.blobs.root / blob_key(digest_bytes(adapter_files(3)["head.json"]))
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    file.write_bytes(file.read_bytes().replace(b"mean", b"last"))
    before = set(tmp_path.iterdir())
    with pytest.raises(IntegrityError):
        exported(source, tmp_path / "news.limpet")
    assert set(tmp_path.iterdir()) == before


def test_bytes_that_change_while_they_are_packed_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[1]")
    entry = FileEntry("a.json", digest_bytes(b"[2]"), 3)
    with pytest.raises(IntegrityError, match="changed while it was packed"):
        bundle_format.pack(tmp_path / "out.limpet", "news", digest_bytes(b""), contents={entry: tmp_path / "a.json"})
    assert not (tmp_path / "out.limpet").exists()


@pytest.mark.parametrize("name", ["task.json", "bundle.json", "model.bin", "data-train.jsonl", "x" * 100 + ".json"])
def test_a_version_whose_files_have_names_that_do_not_fit_stays_a_folder(
    source: Store, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"{}")
    versions.register(source, draft("films"), {name: file})
    with pytest.raises(UsageError, match=name[:60]):
        exported(source, tmp_path / "films.limpet", "films@1")
    assert export_import.export(source, "films@1", tmp_path / "films").is_dir()


def test_a_folder_that_cannot_be_written_is_a_typed_error(source: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LimpetError):
        exported(source, tmp_path / "file" / "news.limpet")


# the way in


def test_a_baseline_joins_a_home_that_has_nothing_to_answer_with(
    source: Store, target: Store, tmp_path: Path
) -> None:
    made = add_sound_version(source, seed=4, role="baseline")
    bundle = exported(source, tmp_path / "baseline.limpet", made.reference)
    version, created = Home(target).adapter.import_bundle(bundle, mirror=False)
    assert (version.digest, version.role, created) == (made.digest, "baseline", True)


def test_a_version_comes_in_with_its_identity_its_task_and_its_probe(source: Store, made: Path, home: Store) -> None:
    theirs = versions.resolve(source, "news@1")
    # on the home of both databases, where the task is known
    ours, created = export_import.import_bundle(home, made)
    assert created
    assert (ours.reference, ours.digest, ours.files) == ("news@1", theirs.digest, theirs.files)
    assert (ours.metrics, ours.config, ours.environment) == (theirs.metrics, theirs.config, theirs.environment)
    assert reference_outputs.of(home, "news@1") == reference_outputs.of(source, "news@1")
    assert verify(home) == ()


def test_what_a_version_was_learned_on_comes_in_with_it_and_may_be_unknown(
    source: Store, target: Store, tmp_path: Path
) -> None:
    inputs = {"train": "sha256:" + "1" * 64, "evaluation": "sha256:" + "2" * 64, "template": None}
    add_sound_version(source, seed=4, inputs=inputs)
    ours, _ = export_import.import_bundle(target, exported(source, tmp_path / "two.limpet", "news@2"))
    assert ours.inputs == inputs
    manifest = json.loads(
        export_import.export(source, "news@2", tmp_path / "folder").joinpath("manifest.json").read_text()
    )
    assert list(wrong_fields(manifest, MANIFEST, MANIFEST_SINCE_0004)) == []
    # as versions of older homes
    older = {name: value for name, value in manifest.items() if name != "inputs"}
    assert list(wrong_fields(older, MANIFEST, MANIFEST_SINCE_0004)) == []
    wrong = manifest | {"inputs": {"train": "the training split"}}
    assert list(wrong_fields(wrong, MANIFEST, MANIFEST_SINCE_0004)) == ["inputs is not a table of digests"]


def test_a_task_that_is_unknown_comes_in_with_its_data(source: Store, made: Path, target: Store) -> None:
    export_import.import_bundle(target, made)
    assert tasks.get(target, "news") == tasks.get(source, "news")
    assert [target.blobs.exists(split.digest) for split in tasks.get(target, "news").splits] == [True] * 3
    assert verify(target) == ()


def test_numbers_parents_and_streams_stay_in_their_home(source: Store, target: Store, tmp_path: Path) -> None:
    add_sound_version(source, seed=4, parent="news@1", lineage={"stream": "four", "step": 2})
    theirs = versions.resolve(source, "news@2")
    ours, _ = export_import.import_bundle(target, exported(source, tmp_path / "two.limpet", "news@2"))
    assert (ours.reference, ours.digest, ours.parent) == ("news@1", theirs.digest, None)
    (told,) = [event.detail for event in log.read(target).items if event.action == "import"]
    assert ours.lineage == {
        "imported": {
            "parent": "news@1",
            "created_at": theirs.created_at,
            "manifest_digest": told["manifest_digest"],
            "lineage": {"stream": "four", "step": 2},
        }
    }


def test_importing_again_gives_the_same_version_and_one_event(made: Path, target: Store) -> None:
    first, _ = export_import.import_bundle(target, made)
    again, created = export_import.import_bundle(target, made)
    assert (again, created) == (first, False)
    assert [event.action for event in log.read(target).items].count("import") == 1


def test_a_bundle_with_names_that_are_one_on_some_disks_is_refused(made: Path, target: Store, tmp_path: Path) -> None:
    entries = entries_of(made, tmp_path / "entries") | {"Head.json": b"{}"}
    (tmp_path / "twins.limpet").write_bytes(sealed(entries))
    with pytest.raises(IntegrityError, match="are one on many disks"):
        export_import.import_bundle(target, tmp_path / "twins.limpet")


def test_importing_again_mends_every_byte_that_rotted(made: Path, target: Store) -> None:
    export_import.import_bundle(target, made)
    assert isinstance(target.blobs, LocalBlobs)
    for digest in list(target.blobs.digests()):
        file = target.blobs.root / blob_key(digest)
        file.chmod(0o644)
        file.write_bytes(bytes(file.stat().st_size))
    assert {problem.kind for problem in verify(target)} == {"changed"}
    export_import.import_bundle(target, made)
    assert verify(target) == ()


def test_what_was_imported_can_be_passed_on(source: Store, made: Path, target: Store, tmp_path: Path) -> None:
    export_import.import_bundle(target, made)
    onward = exported(target, tmp_path / "onward.limpet")
    third = a_home(tmp_path / "third")
    version, _ = export_import.import_bundle(third, onward)
    assert version.digest == versions.resolve(source, "news@1").digest
    # and home again: it is there already
    assert export_import.import_bundle(source, onward) == (versions.resolve(source, "news@1"), False)


def test_a_version_that_was_deleted_here_comes_in_under_a_new_number(source: Store, made: Path) -> None:
    deletion.delete(source, "news@1", "a test")
    version, created = export_import.import_bundle(source, made)
    assert (version.reference, created) == ("news@2", True)


def test_an_import_moves_no_alias(source: Store, made: Path) -> None:
    aliases.promote(source, "news@1", "production")
    add_sound_version(source, seed=5)
    export_import.import_bundle(source, made)
    assert versions.resolve(source, "news@production").number == 1


def test_a_version_that_is_here_keeps_its_own_probe(source: Store, made: Path, tmp_path: Path) -> None:
    home = stock(tmp_path / "home")
    own = add_sound_version(home, seed=3, probe=False, metrics={"score": 0.75})
    assert reference_outputs.of(home, own.reference) is None
    assert export_import.import_bundle(home, made)[1] is False
    theirs = reference_outputs.of(home, own.reference)
    assert theirs == reference_outputs.of(source, "news@1")
    other = stock(tmp_path / "other")
    add_sound_version(other, seed=3, probe=False)
    answers = reference_outputs.write(["another text"], [[1.0, 0.0]], 8, environment=own.environment)
    reference_outputs.keep(other, "news@1", answers)
    export_import.import_bundle(other, made)
    assert reference_outputs.of(other, "news@1") == reference_outputs.parse(answers)


def test_a_version_without_a_probe_travels_too(tmp_path: Path) -> None:
    source, target = stock(tmp_path / "source"), a_home(tmp_path / "target")
    version = add_sound_version(source, probe=False)
    export_import.import_bundle(target, exported(source, tmp_path / "bare.limpet"))
    assert reference_outputs.of(target, "news@1") is None
    keep_a_probe(target, version)


def test_an_unknown_base_is_named_with_what_to_type(made: Path, tmp_path: Path) -> None:
    empty = a_home(tmp_path / "empty", base=False)
    with pytest.raises(NotFoundError, match="sample:tiny") as refused:
        export_import.import_bundle(empty, made)
    assert refused.value.hint == "limpet base add sample:tiny"
    assert tasks.list_all(empty) == ()


def test_another_base_of_the_same_name_is_not_the_base(made: Path, tmp_path: Path) -> None:
    other = a_home(tmp_path / "other", base=False)
    bases.add(other, a_base(digest=digest_bytes(b"other weights")))
    with pytest.raises(NotFoundError):
        export_import.import_bundle(other, made)


def test_an_unknown_task_without_its_data_is_refused(source: Store, target: Store, tmp_path: Path) -> None:
    bare = exported(source, tmp_path / "bare.limpet", data=False)
    with pytest.raises(NotFoundError, match="does not bring its data"):
        export_import.import_bundle(target, bare)
    assert list(target.blobs.digests()) == []
    # where the task is known, the data is not needed
    home = stock(tmp_path / "home")
    assert export_import.import_bundle(home, bare)[1]


def test_another_task_of_the_same_name_is_a_conflict_and_nothing_is_kept(made: Path, tmp_path: Path) -> None:
    home = a_home(tmp_path / "home")
    task = a_task(home, "news")
    tasks.add(home, replace(task, definition=replace(task.definition, max_length=8)))
    before = sorted(home.blobs.digests())
    with pytest.raises(ConflictError, match="max_length"):
        export_import.import_bundle(home, made)
    assert sorted(home.blobs.digests()) == before
    assert versions.find(home).items == ()


def test_a_file_that_is_not_there_is_not_found(target: Store, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.limpet", tmp_path / "source" / "limpet.db" / "x.limpet"):
        with pytest.raises(NotFoundError):
            export_import.import_bundle(target, path)
    with pytest.raises(IntegrityError, match="regular"):
        export_import.import_bundle(target, tmp_path)
