"""Tasks of the language-model evaluation harness on words of the tiny bases, and the library for the tests of it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
QUESTIONS = (
    ("the old wave and", ["tide", "cloud", "stone"]),
    ("a new cloud of", ["salt reef", "wind star moon", "sand cliff"]),
    ("iron and clay in the far", ["boat", "storm wing", "ore"]),
    ("near the big", ["shell", "moon", "cliff sand ore"]),
)
CHOICES: dict[str, Any] = {
    "task": "choices",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "right",
    "metric_list": [{"metric": "acc_norm"}, {"metric": "acc"}],
}
DOCUMENTS = CHOICES | {
    "task": "documents",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{long}}",
    "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
}
LAST_WORDS = CHOICES | {
    "task": "last-words",
    "output_type": "loglikelihood",
    "doc_to_target": "{{' ' + choices[right]}}",
    "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
}
WRITTEN = CHOICES | {
    "task": "written",
    "output_type": "generate_until",
    "doc_to_target": "{{choices[right]}}",
    "generation_kwargs": {"until": ["moon", "\n\n"], "max_gen_toks": 24},
    "num_fewshot": 2,
    "fewshot_split": "test",
    "metric_list": [{"metric": "exact_match", "ignore_case": True}],
}
TASKS = (CHOICES, DOCUMENTS, LAST_WORDS, WRITTEN)
for _without in (DOCUMENTS, LAST_WORDS, WRITTEN):
    del _without["doc_to_choice"]


def rows(count: int = 24) -> list[dict[str, Any]]:
    """Questions with three answers each, and texts longer than the tiny bases have positions."""
    found = []
    for at in range(count):
        question, choices = QUESTIONS[at % len(QUESTIONS)]
        long = " ".join(f"{question} {choice}" for choice in choices[at % 3 :] * (4 + at % 5))
        found.append(
            {"question": f"{question} {'old ' * (at % 6)}and", "choices": choices, "right": at % 3, "long": long}
        )
    return found


def task_file(folder: Path, content: dict[str, Any] = CHOICES, **changes: Any) -> Path:
    """Write a task file with its rows into a folder."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    path = folder / f"{content['task']}.yaml"
    path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def lm_eval(tmp_path_factory: pytest.TempPathFactory) -> None:
    """lm-eval: as it is installed, else in a folder of these tests, in the version of constraints.txt."""
    if importlib.util.find_spec("lm_eval") is not None:
        return
    folder = tmp_path_factory.mktemp("lm-eval")
    # it brings a dozen packages, of which these tests import none
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
    subprocess.run([*pip, "--target", str(folder), "lm-eval"], check=True)
    sys.path.append(str(folder))
    importlib.invalidate_caches()
