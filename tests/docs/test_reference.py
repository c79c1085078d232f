"""The reference: what the site says of commands and of Python is what the program has."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import runpy
from collections.abc import Iterator
from types import FunctionType, ModuleType

import pytest

import limpet
from tests.docs.pages import DOCS, REFERENCE

PYTHON = "\n".join(page.read_text(encoding="utf-8") for page in sorted((REFERENCE / "python").glob("*.md")))


def _resolve(path: str) -> object:
    """Import what a dotted path leads to: a module, or a name in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        owner = importlib.import_module(module)
        assert hasattr(owner, name), f"docs/reference/python names {path}, which is not there"
        return getattr(owner, name)


@pytest.fixture(scope="module")
def shown() -> list[object]:
    """Everything that the pages ask the site to show; of a module, all that it calls public."""
    things = [_resolve(path) for path in re.findall(r"^::: (\S+)$", PYTHON, re.MULTILINE)]
    modules = [thing for thing in things if isinstance(thing, ModuleType)]
    return things + [getattr(module, name) for module in modules for name in module.__all__]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[type, ...]:
    """The home's class, and those of its nouns."""
    home = limpet.init(tmp_path_factory.mktemp("reference") / ".limpet", mlflow="off")
    nouns = (type(noun) for noun in vars(home).values())
    return (limpet.Home, *(noun for noun in nouns if noun.__module__.startswith("limpet.home.nouns.")))


def _named(method: ast.FunctionDef) -> Iterator[str]:
    """The names in a method's annotations."""
    rest = [method.args.kwarg] if method.args.kwarg else []
    arguments = method.args.posonlyargs + method.args.args + method.args.kwonlyargs + rest
    for annotation in (method.returns, *(argument.annotation for argument in arguments)):
        if annotation is not None:
            yield from (node.id for node in ast.walk(annotation) if isinstance(node, ast.Name))


def _classes_of(face: type | FunctionType) -> Iterator[type]:
    """The classes of limpet that a function, or a class's public methods, take or return."""
    tree = ast.parse(inspect.getsource(importlib.import_module(face.__module__)))
    # most of them are imported for types only
    names = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("limpet.")
        for alias in node.names
    } | {node.name: (face.__module__, node.name) for node in tree.body if isinstance(node, ast.ClassDef)}
    (found,) = [node for node in tree.body if getattr(node, "name", None) == face.__name__]
    for method in found.body if isinstance(found, ast.ClassDef) else [found]:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            for module, name in (names[name] for name in _named(method) if name in names):
                thing = getattr(importlib.import_module(module), name)
                if inspect.isclass(thing):
                    yield thing


def test_the_reference_of_commands_is_what_help_prints() -> None:
    script = runpy.run_path(str(DOCS / "commands.py"))
    written = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    # not by assert alone, which would compare eight hundred lines before it says what to do
    same = written == script["page"]()
    assert same, f"docs/reference/commands.md is not what the commands print under --help; type: {script['COMMAND']}"


def test_every_public_name_of_limpet_is_in_the_reference(shown: list[object]) -> None:
    assert [name for name in limpet.__all__ if f"::: limpet.{name}\n" not in PYTHON] == []
    errors = importlib.import_module("limpet.errors")
    assert [name for name in errors.__all__ if getattr(errors, name) not in shown] == []


def test_every_noun_is_in_the_reference_with_every_method(faces: tuple[type, ...], shown: list[object]) -> None:
    assert len(faces) >= 8
    assert [face.__name__ for face in faces if face not in shown] == []
    # the site shows every method that says what it does, unless a page chooses among them
    assert "members:" not in PYTHON and "filters:" not in PYTHON
    for face in faces:
        methods = inspect.getmembers(face, inspect.isfunction)
        assert [name for name, method in methods if not name.startswith("_") and not method.__doc__] == []


def test_what_the_methods_take_and_return_is_in_the_reference(faces: tuple[type, ...], shown: list[object]) -> None:
    asked = {thing for face in (limpet.init, limpet.open, *faces) for thing in _classes_of(face)}
    assert len(asked) >= 20
    assert sorted(f"{thing.__module__}.{thing.__name__}" for thing in asked if thing not in shown) == []
