"""What the tests of the mirror start from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's own empty database, which takes it seconds to make."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    script = "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1]).search_experiments()"
    subprocess.run([sys.executable, "-c", script, f"sqlite:///{file}"], check=True, capture_output=True)
    return file
