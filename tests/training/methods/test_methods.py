"""The seam: every module of the folder is a method, and nothing outside names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import limpet
from limpet.errors import UsageError
from limpet.training import methods

PACKAGE = Path(limpet.__file__).parent


def test_every_module_of_the_folder_is_a_method_of_its_name() -> None:
    files = (PACKAGE / "training" / "methods").glob("[!_]*.py")
    assert {path.stem for path in files} == set(methods.names())
    for name in methods.names():
        method = methods.get(name)
        assert method.name == name
        assert method.summary
        assert 0 < method.learning_rate < 1


def test_an_unknown_method_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="full, lora"):
        methods.get("magic")


def test_the_trainer_names_no_method() -> None:
    for path in (PACKAGE / "training").glob("*.py"):
        code = path.read_text(encoding="utf-8")
        named = re.findall(r"== \"(?:lora|full)\"|methods\.get\(\"", code)
        assert not named, f"{path.name} decides by the name of a method"
