"""`limpet doctor`: what is wrong is one line with a hint, and the exit code is 1."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from limpet.home import Home
from limpet.registry.database.migrate import head
from tests.cli.conftest import Limpet
from tests.tiny import change_one_weight


def findings(limpet: Limpet) -> tuple[int, dict[str, Any]]:
    outcome = limpet("doctor", "--json")
    content = outcome.json
    assert content["healthy"] is (outcome.code == 0)
    assert content["healthy"] is all(one["status"] != "fail" for one in content["findings"])
    return outcome.code, {one["name"]: one for one in content["findings"]}


def test_a_sound_home_has_nothing_that_fails(grown: Limpet) -> None:
    code, found = findings(grown)
    assert code == 0
    assert {one["status"] for one in found.values()} <= {"ok", "warn"}
    assert found["schema"]["detail"] == f"{head()}, that of this limpet"
    assert "journal delete, synchronous" in found["database"]["detail"]
    assert "a durable write takes" in found["blobs"]["detail"]
    assert found["home"]["detail"].endswith("(by --home)")
    assert found["setting db"]["detail"] == "not set (default)"
    assert found["setting mlflow"]["detail"] == "off (limpet.toml)"
    assert found["setting cache"]["detail"].endswith("(LIMPET_CACHE)")
    assert "fingerprint is in the cache" in next(one["detail"] for name, one in found.items() if name[:5] == "base ")
    assert "torch" in found["packages"]["detail"]


def test_it_leaves_nothing_behind(copy: Limpet) -> None:
    before = sorted(path for path in copy.home.rglob("*") if path.is_file())
    copy.ok("doctor")
    assert sorted(path for path in copy.home.rglob("*") if path.is_file()) == before
    copy.ok("verify")


def test_without_a_home_it_looks_at_the_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "limpet", "doctor", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert (found["home"]["status"], found["home"]["hint"]) == ("warn", "limpet init")
    assert set(found) >= {"python", "packages", "free disk"}


def test_it_imports_neither_torch_nor_mlflow(grown: Limpet) -> None:
    script = (
        "import sys\nfrom limpet.cli import cli\n"
        f"try:\n    cli.main(['--home', {str(grown.home)!r}, 'doctor'])\nexcept SystemExit as end:\n    pass\n"
        "print('modules:', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=grown.environment
    )
    modules = set(done.stdout.rpartition("modules:")[2].split())
    assert not modules & {"torch", "transformers", "peft", "mlflow", "datasets"}


def test_a_home_that_is_not_there_fails(new: Limpet) -> None:
    code, found = findings(new)
    assert (code, found["home"]["status"]) == (1, "fail")


def test_an_older_schema_is_named_with_the_command_that_upgrades_it(copy: Limpet) -> None:
    with sqlite3.connect(copy.home / "limpet.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    code, found = findings(copy)
    assert code == 1
    failed = [one for one in found.values() if one["status"] == "fail"]
    assert [(one["name"], one["hint"]) for one in failed] == [("schema", "limpet db upgrade")]
    assert found["database"]["status"] == "ok"
    assert "older schema 0001" in failed[0]["detail"]
    assert "blobs" in found


def test_a_lost_database_is_named_and_not_made_anew(copy: Limpet) -> None:
    (copy.home / "limpet.db").unlink()
    code, found = findings(copy)
    assert (code, found["database"]["status"]) == (1, "fail")
    assert not (copy.home / "limpet.db").exists()


def test_settings_that_are_not_toml_fail(copy: Limpet) -> None:
    (copy.home / "limpet.toml").write_text("base = ", encoding="utf-8")
    code, found = findings(copy)
    assert code == 1
    assert "is not TOML" in found["settings"]["detail"]


def test_blobs_that_can_not_be_written_fail(copy: Limpet) -> None:
    # a file where the folder of new files must be: not even root can write into it
    (copy.home / "blobs" / "tmp").rmdir()
    (copy.home / "blobs" / "tmp").write_text("", encoding="utf-8")
    code, found = findings(copy)
    assert (code, found["blobs"]["status"]) == (1, "fail")
    assert found["blobs"]["hint"]


def test_a_mirror_that_does_not_answer_fails_and_its_password_stays_hidden(copy: Limpet) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://ada:secret@127.0.0.1:{taken.getsockname()[1]}"
        text = (copy.home / "limpet.toml").read_text(encoding="utf-8").replace('"off"', f'"{uri}"')
        (copy.home / "limpet.toml").write_text(text, encoding="utf-8")
        outcome = copy("doctor")
    assert outcome.code == 1
    assert "can't be reached" in outcome.stdout
    assert "secret" not in outcome.stdout


def test_bases_that_are_gone_or_changed_fail(home: Home) -> None:
    limpet = Limpet(home.path, home.store.settings.cache)
    folder = Path(home.base.show().name)
    change_one_weight(folder)
    code, found = findings(limpet)
    assert (code, found[f"base {folder}"]["status"]) == (0, "ok")
    assert "will be taken" in found[f"base {folder}"]["detail"]
    limpet("base", "verify")
    shutil.rmtree(folder)
    code, found = findings(limpet)
    assert (code, found[f"base {folder}"]["status"]) == (1, "fail")


def test_unfinished_runs_garbage_and_protected_aliases_are_named(copy: Limpet) -> None:
    run = copy.home / "runs" / "abc"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"task": "place"}', encoding="utf-8")
    copy.ok("policy", "set", "--protect", "production")
    _, found = findings(copy)
    assert (found["runs"]["status"], found["runs"]["hint"]) == ("warn", "limpet train place --resume")
    assert found["protected aliases"]["detail"] == "production"
    assert found["garbage"]["detail"].startswith("gc could free")


@pytest.mark.parametrize(("version", "code"), [("4.0.0", 1), ("5.99.0", 0)])
def test_a_package_of_another_version_than_asked_for_fails(
    grown: Limpet, monkeypatch: pytest.MonkeyPatch, version: str, code: int
) -> None:
    from limpet.home.doctor import machine

    known = machine._version
    monkeypatch.setattr(machine, "_version", lambda name: version if name == "transformers" else known(name))
    ended, found = findings(grown)
    assert ended == code
    if code:
        assert found["transformers"]["hint"].startswith("pip install 'transformers")
