"""The workflow that GitHub runs types nothing but commands of this repository, which exist."""

from __future__ import annotations

import os
import re

import yaml

from tests.docs.pages import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
JOBS = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
TYPED = {step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step}


def _targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_workflow_runs_the_tests_and_builds_the_site() -> None:
    assert {line for line in TYPED if not line.startswith("apt-get ")} == {".ci/run", "make docs"}


def test_what_it_runs_exists() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    asked = re.findall(r"^make (\S+)$", "\n".join([script.read_text(encoding="utf-8"), *TYPED]), re.MULTILINE)
    assert sorted(asked) == ["docs", "test"]
    assert set(asked) <= _targets()


def test_it_runs_on_the_python_that_the_project_asks_for() -> None:
    text = WORKFLOW.read_text(encoding="utf-8")
    assert set(re.findall(r"python(?:-version)?:\s*\"?([\d.]+)", text)) == {"3.11"}
