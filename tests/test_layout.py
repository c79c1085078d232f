"""The package as a house: rooms that can be taken in at a glance, and imports that point one way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.imports import Graph, circles, floor_plan, read_imports

_ROOT = Path(__file__).parents[1]
_PACKAGE = _ROOT / "limpet"
_MOST_ROOMS = 15
# plug-ins, found because they are there: nobody looks for one by its neighbours, and one more is a file, no new room
_PLUG_INS = (_PACKAGE / "training" / "methods", _PACKAGE / "cli" / "commands")


@pytest.fixture(scope="module")
def imports() -> Graph:
    return read_imports(_ROOT)


def test_no_files_import_each_other(imports: Graph) -> None:
    assert circles(imports) == []


def test_in_every_folder_the_rooms_have_an_order(imports: Graph) -> None:
    folders = {module.rpartition(".")[0] for module in imports} - {""}
    backward = {folder: floor_plan(imports, folder).arrows_back for folder in sorted(folders)}
    assert {folder: arrows for folder, arrows in backward.items() if arrows} == {}


def test_the_lines_that_say_any_only_become_fewer() -> None:
    lines = [line for file in _PACKAGE.rglob("*.py") for line in file.read_text().splitlines()]
    # lower it with every one that goes
    assert len([line for line in lines if re.search(r": Any\b|-> Any\b", line)]) <= 44


def test_a_folder_has_no_more_rooms_than_one_takes_in() -> None:
    folders = [_PACKAGE, *(folder for folder in _PACKAGE.rglob("*") if folder.is_dir() and folder not in _PLUG_INS)]
    assert {folder.name: rooms for folder in folders if len(rooms := _rooms(folder)) > _MOST_ROOMS} == {}


def _rooms(folder: Path) -> list[str]:
    files = [file.stem for file in folder.glob("*.py") if file.stem != "__init__"]
    return files + [init.parent.name for init in folder.glob("*/__init__.py")]


def test_an_import_counts_wherever_it_stands(tmp_path: Path) -> None:
    _write(tmp_path, "early.py", "from house.late import something")
    _write(tmp_path, "late.py", "def something():\n    import house.typed")
    _write(tmp_path, "typed.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import early")
    _write(tmp_path, "alone.py", "import json")
    assert circles(read_imports(tmp_path, "house")) == [("house.early", "house.late", "house.typed")]


def test_a_floor_plan_takes_a_sub_folder_for_one_room(tmp_path: Path) -> None:
    _write(tmp_path, "ground.py", "")
    _write(tmp_path, "folder/__init__.py", "from house.folder.one import name")
    _write(tmp_path, "folder/one.py", "from house import ground\nname = 1")
    _write(tmp_path, "folder/two.py", "from house.folder.one import name")
    _write(tmp_path, "roof.py", "from house.folder import name\nfrom house import ground")
    plan = floor_plan(read_imports(tmp_path, "house"), "house")
    assert (plan.rooms, plan.floors) == (("folder", "ground", "roof"), 3)
    assert plan.arrows == {("folder", "ground"), ("roof", "folder"), ("roof", "ground")}
    assert (plan.arrows_back, plan.circles) == ((), ())


def test_who_imports_the_face_of_the_own_folder_looks_back(tmp_path: Path) -> None:
    _write(tmp_path, "__init__.py", "from house.room import name")
    _write(tmp_path, "room.py", "from house import name")
    plan = floor_plan(read_imports(tmp_path, "house"), "house")
    assert plan.arrows_back == (("room", "__init__"),)
    assert plan.circles == (("house", "house.room"),)


def _write(root: Path, name: str, text: str) -> None:
    file = root / "house" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
