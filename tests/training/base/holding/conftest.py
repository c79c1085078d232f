"""The library that quantises, for the tests that need it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> None:
    """bitsandbytes: as it is installed, else in a folder of these tests, in the version of constraints.txt."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        return
    folder = tmp_path_factory.mktemp("library")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    subprocess.run([*pip, "--target", str(folder), "bitsandbytes"], check=True)
    sys.path.append(str(folder))
    importlib.invalidate_caches()
