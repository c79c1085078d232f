"""Entries of the cache: the very bytes that were kept, or none; and a cache that can't be used keeps nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.errors import LimpetError
from limpet.registry.cache import cache_folder, keep, needed, recall, scratch_folder
from tests.registry.blobs.small_disk import small_disk

CONTENT = b"what was computed" * 9


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIMPET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "limpet"
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    # a shell does not expand what stands in quotes or in a file of variables
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LIMPET_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"


def test_a_user_without_a_home_folder_is_told_to_name_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LIMPET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(LimpetError) as caught:
        cache_folder()
    assert "LIMPET_CACHE" in caught.value.hint


def test_an_entry_is_read_as_it_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "entry"
    assert recall(path) is None
    keep(path, CONTENT[:5], CONTENT[5:])
    assert bytes(recall(path) or b"") == CONTENT
    keep(path, b"")
    content = recall(path)
    assert content is not None and len(content) == 0
    assert [file.name for file in path.parent.iterdir()] == ["entry"]


@settings(max_examples=30)
@given(st.data())
def test_an_entry_with_any_byte_changed_cut_off_or_added_is_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed-entry"
    keep(path, CONTENT)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    for damaged in (flipped, whole[:at], whole + b"\0", b"\0" * len(whole)):
        path.write_bytes(damaged)
        assert recall(path) is None
    path.write_bytes(whole)
    assert bytes(recall(path) or b"") == CONTENT


def test_an_entry_under_the_name_of_another_is_none(tmp_path: Path) -> None:
    keep(tmp_path / "one", CONTENT)
    (tmp_path / "one").rename(tmp_path / "other")
    assert recall(tmp_path / "other") is None


def test_a_process_of_another_machine_with_the_same_number_writes_beside(tmp_path: Path) -> None:
    from limpet.registry.system.atomic_files import whole_file

    path = tmp_path / "entry"
    with whole_file(path) as one, whole_file(path) as other:
        assert one != other
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(params=["a file in its place", "a folder in an entry's place", "read-only", "full"])
def unusable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The path of an entry that can't be kept."""
    path = tmp_path / "cache" / "tokens" / "entry"
    if request.param == "a file in its place":
        (tmp_path / "cache").write_bytes(b"")
        yield path
    elif request.param == "a folder in an entry's place":
        (path / "folder").mkdir(parents=True)
        yield path
    else:
        with small_disk(tmp_path / "cache", "1m") as disk:
            path.parent.mkdir()
            if request.param == "full":
                disk.fill()
                yield path
            else:
                with disk.read_only():
                    yield path


def test_a_cache_that_takes_nothing_is_done_without(unusable: Path) -> None:
    keep(unusable, CONTENT)
    assert recall(unusable) is None
    # and nothing half written stays
    assert not unusable.parent.is_dir() or {file.name for file in unusable.parent.iterdir()} <= {"entry"}


def test_what_needs_the_cache_names_it_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    folder = tmp_path / "cache" / "wheels"
    with pytest.raises(LimpetError, match="can't be used: Not a directory") as caught, needed(folder):
        folder.mkdir()
    assert str(folder) in caught.value.message
    assert "LIMPET_CACHE" in caught.value.hint


def test_what_is_needed_for_a_moment_lies_elsewhere_if_need_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    with scratch_folder(".datasets-") as folder:
        assert Path(folder).parent == tmp_path / "cache"
    monkeypatch.setenv("LIMPET_CACHE", "/proc/limpet")
    with scratch_folder(".datasets-") as folder:
        assert Path(folder).is_dir()
    assert not Path(folder).exists()
