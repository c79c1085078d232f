"""What the tests of the mirror start from."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's own empty database, which takes it seconds to make; all workers of a run share it."""
    own = tmp_path_factory.getbasetemp()
    file = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "mlflow.db"
    script = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
    with file.with_suffix(".lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            made = file.with_suffix(".made")
            subprocess.run([sys.executable, "-c", script, f"sqlite:///{made}"], check=True, capture_output=True)
            made.rename(file)
    return file
