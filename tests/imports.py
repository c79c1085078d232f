"""The imports of the package as a floor plan: rooms, floors, arrows, arrows back and circles of a folder.

`python -m tests.imports limpet/registry limpet/cli` prints one line for each folder, `--root TREE` reads another
tree. A room is a file or a sub-folder; what lies in a sub-folder counts as that room. An arrow is that one room
imports another, at any place of a file: inside functions and under `TYPE_CHECKING` too. A floor is a room's height
above those that import nothing of the folder. A circle is a group of files that import each other, and an arrow back
is one that has to go before the rooms have an order: the folder's `__init__.py` is no room but its face, above all.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

Graph = Mapping[str, frozenset[str]]
"""What each name imports; every name that is imported has an entry of its own."""

_FACE = "__init__"


@dataclass(frozen=True)
class FloorPlan:
    """The rooms of one folder and the arrows between them; `circles` are those of files, anywhere in the folder."""

    rooms: tuple[str, ...]
    floors: int
    arrows: frozenset[tuple[str, str]]
    arrows_back: tuple[tuple[str, str], ...]
    circles: tuple[tuple[str, ...], ...]


def read_imports(root: Path, package: str = "limpet") -> Graph:
    """Return what each module of a package imports of it; a folder's `__init__.py` goes by the folder's name.

    Args:
        root: The folder in which the package lies.
        package: Its name.
    """
    files = {_module(file.relative_to(root)): file for file in sorted((root / package).rglob("*.py"))}
    return {module: frozenset(_imported(module, file, files)) for module, file in files.items()}


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == _FACE else parts)


def _imported(module: str, file: Path, files: Mapping[str, Path]) -> Iterable[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                folder = module.split(".") if file.stem == _FACE else module.split(".")[:-1]
                source = ".".join([*folder[: len(folder) - node.level + 1], *([source] if source else [])])
            # a name is a module where there is one, else something that is defined in the source
            names = [name if (name := f"{source}.{alias.name}") in files else source for alias in node.names]
        else:
            continue
        yield from (name for name in names if name in files and name != module)


def circles(graph: Graph) -> list[tuple[str, ...]]:
    """Return the groups whose members all reach each other, the largest first: the strongly connected components."""
    reached = {name: _reach(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in others if name in reached[other]))
        for name, others in reached.items()
        if name in others
    }
    return sorted(groups, key=lambda group: (-len(group), group))


def _reach(graph: Graph, start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - reached
        reached |= new
        waiting.extend(new)
    return reached


def floor_plan(imports: Graph, folder: str) -> FloorPlan:
    """Return the rooms of a folder, such as `limpet.registry`, and the arrows between them."""
    inside = {module: names for module, names in imports.items() if _is_inside(module, folder)}
    graph: dict[str, set[str]] = {}
    for module, names in inside.items():
        room = _room(module, folder)
        graph.setdefault(room, set()).update(_room(name, folder) for name in names if name in inside)
        graph[room].discard(room)
    graph.pop(_FACE, None)
    arrows = frozenset((room, other) for room, others in graph.items() for other in others)
    rooms = {room: frozenset(others - {_FACE}) for room, others in graph.items()}
    back = {arrow for arrow in arrows if arrow[1] == _FACE} | _arrows_back(rooms)
    return FloorPlan(
        tuple(sorted(rooms)),
        _floors({room: frozenset(end for end in rooms[room] if (room, end) not in back) for room in rooms}),
        arrows,
        tuple(sorted(back)),
        tuple(circles({module: names & inside.keys() for module, names in inside.items()})),
    )


def _is_inside(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


def _room(module: str, folder: str) -> str:
    return module.removeprefix(folder).lstrip(".").partition(".")[0] or _FACE


def _arrows_back(rooms: Graph) -> set[tuple[str, str]]:
    """Return few arrows without which no rooms import each other: those against the order of Eades, Lin and Smyth.

    See "A fast and effective heuristic for the feedback arc set problem", Information Processing Letters 47 (1993).
    """
    left = {room: set(others) for room, others in rooms.items()}
    top: list[str] = []
    bottom: list[str] = []

    def take(room: str, order: list[str]) -> None:
        order.append(room)
        del left[room]
        for others in left.values():
            others.discard(room)

    while left:
        importers = {room: sum(room in others for others in left.values()) for room in sorted(left)}
        if lowest := [room for room in importers if not left[room]]:
            take(lowest[0], bottom)
        elif highest := [room for room, count in importers.items() if not count]:
            take(highest[0], top)
        else:
            take(max(importers, key=lambda room: len(left[room]) - importers[room]), top)
    height = {room: place for place, room in enumerate([*bottom, *reversed(top)])}
    return {(room, other) for room in rooms for other in rooms[room] if height[other] > height[room]}


def _floors(rooms: Graph) -> int:
    floors = 0
    standing: set[str] = set()
    while len(standing) < len(rooms):
        standing |= {room for room, others in rooms.items() if others <= standing}
        floors += 1
    return floors


def _main() -> None:
    parser = argparse.ArgumentParser(description="Print rooms, floors, arrows, arrows back and circles of folders.")
    parser.add_argument("folders", nargs="+", help="such as limpet/registry")
    parser.add_argument("--root", type=Path, default=Path(), help="the tree to read; the current folder by default")
    parser.add_argument("--names", action="store_true", help="name the arrows back and the circles too")
    arguments = parser.parse_args()
    imports = read_imports(arguments.root)
    print("| folder | rooms | floors | arrows | arrows back | circles of files |\n|---|---|---|---|---|---|")
    plans = {folder: floor_plan(imports, folder.strip("/").replace("/", ".")) for folder in arguments.folders}
    for folder, plan in plans.items():
        figures = (len(plan.rooms), plan.floors, len(plan.arrows), len(plan.arrows_back), len(plan.circles))
        print(f"| {folder} | {' | '.join(map(str, figures))} |")
    if arguments.names:
        for plan in plans.values():
            for start, end in plan.arrows_back:
                print(f"back: {start} -> {end}")
            for group in plan.circles:
                print(f"circle: {', '.join(group)}")


if __name__ == "__main__":
    _main()
