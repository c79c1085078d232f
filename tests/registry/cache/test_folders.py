"""Folders of the cache: whole or not there, made again where they were damaged, and kept from who uses them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from limpet.errors import LimpetError
from limpet.registry.cache import open_folder
from limpet.registry.cache.space import MARK
from limpet.registry.cache.use import remove_unused


def write(folder: Path) -> None:
    (folder / "weights").write_bytes(b"1234")
    (folder / "config").write_bytes(b"{}")


def fail(folder: Path) -> None:
    raise AssertionError("made again")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "parent" / "target"

    def stop(folder: Path) -> None:
        write(folder)
        assert not target.exists()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        open_folder(target, stop)
    assert names(target.parent) == set()
    assert names(open_folder(target, write)) == {"weights", "config", MARK}
    assert names(target.parent) == {"target"}
    open_folder(target, fail)


def test_the_one_that_was_there_first_stays(tmp_path: Path) -> None:
    target = tmp_path / "target"

    def late(folder: Path) -> None:
        open_folder(target, write)
        (folder / "late").write_bytes(b"")

    assert names(open_folder(target, late)) == {"weights", "config", MARK}
    assert names(tmp_path) == {"target"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "weights").write_bytes(b"1235"),
        lambda folder: (folder / "weights").unlink(),
        lambda folder: (folder / "adapter_config.json").write_bytes(b"{}"),
        lambda folder: (folder / MARK).unlink(),
        lambda folder: (folder / MARK).write_bytes(b"{}"),
    ],
)
def test_a_damaged_folder_is_made_again_where_it_is_checked(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    target = open_folder(tmp_path / "target", write)
    open_folder(target, fail, checked=True)
    damage(target)
    open_folder(target, fail)
    assert names(open_folder(target, write, checked=True)) == {"weights", "config", MARK}
    open_folder(target, fail, checked=True)
    assert names(tmp_path) == {"target"}


def test_a_folder_under_the_name_of_another_is_made_again(tmp_path: Path) -> None:
    open_folder(tmp_path / "one", write).rename(tmp_path / "other")
    made: list[Path] = []
    open_folder(tmp_path / "other", made.append, checked=True)
    assert len(made) == 1


USER = """
import sys
from pathlib import Path
from limpet.registry.cache import open_folder
open_folder(Path(sys.argv[1]), lambda folder: None)
print("open", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_process_uses_is_not_removed_until_that_dies(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None and user.stdout.readline() == b"open\n"
        assert not remove_unused(folder) and folder.is_dir()
        user.kill()
    assert remove_unused(folder, dry_run=True) and folder.is_dir()
    assert remove_unused(folder) and names(tmp_path) == set()


def test_a_folder_that_was_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "folder", write)
    folder.rename(tmp_path / "away")
    assert names(open_folder(folder, write)) == {"weights", "config", MARK}
    assert not remove_unused(folder), "the new one is in use"


def test_a_cache_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    for folder in (tmp_path / "cache" / "bases" / "one", Path("/proc/limpet/bases/one")):
        with pytest.raises(LimpetError, match="The cache folder") as caught:
            open_folder(folder, write)
        assert "LIMPET_CACHE" in caught.value.hint
