"""`limpet verify`: what is wrong is named, and the exit code is 5."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from limpet.home import Home
from limpet.registry import versions
from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.database.schema import ReferenceOutputsRow
from limpet.registry.formats.canonical import digest_bytes
from limpet.registry.records import reference_outputs
from limpet.registry.store import open_store
from limpet.training.learning.settings import TrainingSettings
from tests.cli.conftest import Limpet
from tests.tiny import change_one_weight

QUICK = TrainingSettings(epochs=1, batch_size=8, dtype="float32")


def blob(home: Path, digest: str) -> Path:
    file = home / "blobs" / "sha256" / digest[7:9] / digest[9:]
    file.chmod(0o644)
    return file


def test_a_sound_home_is_counted(grown: Limpet) -> None:
    verified = grown.ok("verify", "--deep", "--probe", "--json").json
    checked = verified["checked"]
    assert (checked["bases"], checked["versions"], checked["probes"], checked["replayed_probes"]) == (1, 3, 3, 3)
    assert checked["files"] > 10
    assert grown.ok("verify").stdout == "everything is as it was recorded\n"
    # what somebody may keep elsewhere
    assert verified["log_head"] == grown.ok("log", "--json", "--limit", "1").json["events"][0]["digest"]


def test_an_edit_past_limpet_is_named_and_the_hint_is_to_compare(copy: Limpet) -> None:
    with sqlite3.connect(copy.home / "limpet.db") as connection:
        connection.execute("UPDATE evaluations SET score = 1.0 WHERE id = 1")
    outcome = copy("verify")
    assert outcome.code == 5
    assert "row      evaluations 1  is not as event" in outcome.stdout
    assert "compare it with a backup" in outcome.stderr


def test_a_changed_base_is_listed_with_everything_else(home: Home) -> None:
    version = home.train("place", QUICK).version
    limpet = Limpet(home.path, home.store.settings.cache)
    name = change_one_weight(Path(home.base.show().name))
    adapter = next(file for file in version.files if file.name == "adapter_model.safetensors")
    blob(home.path, adapter.digest).unlink()
    outcome = limpet("verify", "--probe", "--json")
    assert outcome.code == 5
    kinds = {problem["kind"]: problem for problem in outcome.json["problems"]}
    assert set(kinds) == {"base", "missing"}
    assert name in kinds["base"]["detail"]
    assert "not replayed" in limpet("verify", "--probe").stderr


def test_an_adapter_config_edited_in_its_blob_is_found_by_its_digest(copy: Limpet) -> None:
    shown = copy.ok("adapter", "show", "place@2", "--json").json
    config = next(file for file in shown["files"] if file["name"] == "adapter_config.json")
    file = blob(copy.home, config["digest"])
    text = file.read_text(encoding="utf-8")
    assert '"lora_alpha": 16' in text
    file.write_text(text.replace('"lora_alpha": 16', '"lora_alpha": 17'), encoding="utf-8")
    outcome = copy("verify", "--deep", "--probe", "--json")
    assert outcome.code == 5
    assert [(problem["kind"], problem["where"]) for problem in outcome.json["problems"]] == [
        ("changed", "place@2, adapter_config.json"),
        ("probe", "place@2"),
    ]


def test_a_base_loaded_in_bfloat16_is_caught_and_named(grown: Limpet, monkeypatch: pytest.MonkeyPatch) -> None:
    load = AutoModel.from_pretrained
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *a, **k: load(*a, **k | {"dtype": torch.bfloat16}))
    assert grown("verify", "--deep").code == 0
    outcome = grown("verify", "--probe", "--json")
    assert outcome.code == 5
    assert {problem["kind"] for problem in outcome.json["problems"]} == {"probe"}
    assert all("dtype float32, now bfloat16" in problem["detail"] for problem in outcome.json["problems"])
    assert outcome.error["hint"].startswith("compare the environments")


def test_another_library_with_the_same_numbers_is_a_note_and_no_problem(
    copy: Limpet, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = AutoModel.from_pretrained
    changed = {"attn_implementation": "sdpa"}
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *a, **k: load(*a, **k | changed))
    # in the recorded environment other bits are a problem, ...
    assert copy("verify", "--probe").code == 5
    # ... under another release of torch they may be a little off
    monkeypatch.setattr("torch.__version__", "99.0.0")
    outcome = copy("verify", "--probe")
    assert outcome.code == 0
    assert "now 99.0.0" in outcome.stderr


def test_versions_from_before_there_were_probes_are_a_note(copy: Limpet) -> None:
    store = open_store(copy.home)
    with store.database.write() as session:
        session.delete(session.get_one(ReferenceOutputsRow, 1))
    store.database.close()
    outcome = copy("verify", "--probe")
    assert outcome.code == 0
    assert "1 version made before there were probes: place@1" in outcome.stderr


def test_an_answer_that_no_environment_explains_is_named(home: Home) -> None:
    home.train("place", QUICK)
    probe = reference_outputs.of(home.store, "place@1")
    assert probe is not None
    assert isinstance(home.store.blobs, LocalBlobs)
    forged = reference_outputs.write(probe.inputs, [[0.5] * 3] * 5, probe.max_length, environment=probe.environment)
    home.store.blobs.put_bytes(forged)
    with home.store.database.write() as session:
        session.get_one(ReferenceOutputsRow, 1).digest = digest_bytes(forged)
    (problem,) = [problem for problem in home.verify(probe=True).problems if problem.kind == "probe"]
    assert problem.where == versions.resolve(home.store, "place@1").reference
    assert "the recorded environment is this one" in problem.detail


def test_a_lost_base_is_named_and_does_not_hide_the_rest(home: Home) -> None:
    home.train("place", QUICK)
    shutil.rmtree(home.base.show().name)
    (problem,) = home.verify(probe=True).problems
    assert (problem.kind, problem.where) == ("base", home.base.show().name)
    assert "gone" in problem.detail
