"""The main path, typed: from an empty folder to versions, aliases, predictions and a report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.conftest import Limpet
from tests.tiny import tiny_csv


def test_from_an_empty_folder_to_the_gate(new: Limpet, base_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(base_folder, tmp_path / "base")
    made = new.ok("init", "--base", tmp_path / "base", "--mlflow", "off", "--json").json
    base = new.ok("base", "show", "--json").json
    assert made == {
        "schema": 1,
        "home": str(new.home),
        "base": str(tmp_path / "base"),
        "base_digest": base["digest"],
        "db": None,
        "blobs": None,
        "mlflow": "off",
    }
    assert base["family"] == "encoder"
    assert new.ok("base", "verify", "--json").json["unchanged"] is True

    data = tiny_csv(tmp_path / "place.csv")
    task = new.ok("task", "add", "place", "--data", f"csv:{data}", "--max-length", 16, "--json").json
    assert (task["name"], task["metric"], task["labels"]) == ("place", "accuracy", ["rock", "sea", "sky"])
    assert [split["name"] for split in task["splits"]] == ["train", "validation", "evaluation"]
    assert new.ok("task", "show", "place", "--json").json == task
    of_one_alone = ("schema", "cut", "majority_baseline", "left_out", "label_notes")
    assert new.ok("task", "list", "--json").json["tasks"] == [
        {key: value for key, value in task.items() if key not in of_one_alone}
    ]

    first = new.ok("train", "place", "--epochs", 1, "--json").json
    assert first["created"] is True
    assert first["version"]["version"] == 1
    assert first["row"] == {"place": first["version"]["metrics"]["score"]}
    again = new.ok("train", "place", "--epochs", 1, "--json").json
    assert again["created"] is False
    assert again["version"]["digest"] == first["version"]["digest"]
    new.ok("train", "place", "--epochs", 2, "--seed", 5, "--lr", "1e-2", "--batch-size", 8, "--set", "r=2")

    shown = new.ok("adapter", "show", "place@2", "--json").json
    assert {"task", "version", "digest", "method", "config", "base_digest", "data_digest", "seed"} < set(shown)
    assert {"created_at", "aliases", "parent", "metrics", "files", "environment"} < set(shown)
    assert {"role", "lineage", "cost", "labels"} < set(shown)
    assert (shown["schema"], shown["task"], shown["version"], shown["seed"]) == (1, "place", 2, 5)
    assert shown["config"]["method"]["r"] == 2
    assert shown["config"]["training"]["batch_size"] == 8
    assert shown["base_digest"] == base["digest"]
    assert all(set(file) == {"name", "digest", "size"} for file in shown["files"])
    assert set(shown["environment"]) == {
        "python",
        "torch",
        "transformers",
        "peft",
        "limpet",
        "device",
        "dtype",
        "threads",
        "activations",
    }

    new.ok("adapter", "promote", "place@1", "production", "--expect", "none", "--reason", "the first")
    moved = new.ok("adapter", "promote", "place@2", "production", "--expect", "place@1", "--json").json
    assert (moved["from_number"], moved["to_number"]) == (1, 2)
    assert new.ok("adapter", "show", "place", "--json").json["version"] == 2
    new.ok("adapter", "rollback", "place", "production", "--reason", "worse")
    events = new.ok("adapter", "history", "place", "--json").json["events"]
    assert [(event["action"], event["to_number"], event["reason"]) for event in events] == [
        ("promote", 1, "the first"),
        ("promote", 2, ""),
        ("rollback", 1, "worse"),
    ]

    exported = new.ok("adapter", "export", "place@2", tmp_path / "out", "--json").json
    assert set(exported["files"]) >= {"adapter_config.json", "adapter_model.safetensors", "manifest.json"}
    answer = new.ok("predict", "place@2", "a wave", "old iron ore", "--json").json
    assert (answer["task"], answer["version"], answer["labels"]) == ("place", 2, ["rock", "sea", "sky"])
    assert [prediction["text"] for prediction in answer["predictions"]] == ["a wave", "old iron ore"]
    assert all(len(prediction["logits"]) == 3 for prediction in answer["predictions"])

    adopted = new.ok("adapter", "register", "place", tmp_path / "out", "--json").json
    assert adopted["version"]["metrics"]["score"] == shown["metrics"]["score"]

    report = new.ok("report", "--json").json
    assert report["base"] == {"name": str(tmp_path / "base"), "digest": base["digest"], "unchanged": True}
    assert json.loads(new.ok("report", "home", "--format", "json").stdout) == report
    gate = new.ok("gate", "--require-identical", "--json").json
    assert gate["crossed"] is False
    verified = new.ok("verify", "--deep", "--probe", "--json").json
    assert verified["problems"] == []
    assert verified["checked"]["replayed_probes"] == verified["checked"]["versions"] == 3


def test_verify_names_a_changed_file_and_exits_5(copy: Limpet) -> None:
    blob = max((copy.home / "blobs").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    blob.chmod(0o644)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    outcome = copy("verify", "--json")
    assert outcome.code == 5
    assert [problem["kind"] for problem in outcome.json["problems"]] == ["changed"]
    assert outcome.error["type"] == "IntegrityError"
    shown = copy("verify")
    assert (shown.code, shown.stdout.splitlines()[1].split()[0]) == (5, "changed")


def test_resume_takes_the_settings_of_the_interrupted_run(copy: Limpet) -> None:
    outcome = copy.ok("train", "place", "--resume", "--json")
    assert outcome.stderr == ""
    # nothing was interrupted, so it begins anew, with the defaults
    assert outcome.json["version"]["config"]["training"]["epochs"] == 3


def test_training_can_begin_with_a_version(copy: Limpet) -> None:
    made = copy.ok("train", "place", "--from", "place@2", "--set", "r=4", "--epochs", 1, "--json").json
    assert made["version"]["parent"] == "place@2"
