"""The public names: what `__all__` says is there, and costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import limpet


def test_every_public_name_is_there() -> None:
    assert all(getattr(limpet, name) is not None for name in limpet.__all__)
    assert list(limpet.__all__) == sorted(limpet.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Limpet'"):
        _ = limpet.Limpet


def test_importing_limpet_imports_nothing_heavy() -> None:
    code = "import limpet, sys; print([name for name in ('torch', 'sqlalchemy', 'mlflow') if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
