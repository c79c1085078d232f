"""The dashboard, served and ended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.cli.conftest import Limpet


@pytest.mark.slow
def test_the_dashboard_answers_until_it_is_told_to_end(copy: Limpet) -> None:
    from limpet.forgetting.mlflow_mirror.dashboard import free_port

    command = [sys.executable, "-m", "limpet", "ui", "--sync", "--port", str(free_port())]
    environment = {**copy.environment, "LIMPET_MLFLOW": f"sqlite:///{copy.home / 'mirror.db'}"}
    process = subprocess.Popen(
        [*command, "--home", str(copy.home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    address = url.partition("/#")[0]
    with urllib.request.urlopen(f"{address}/health", timeout=10) as answer:
        assert answer.status == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{address}/health", timeout=5)


def test_a_mirror_that_is_off_is_not_served(grown: Limpet) -> None:
    outcome = grown("ui", "--json")
    assert outcome.code == 2
    assert "off" in json.dumps(outcome.error)
