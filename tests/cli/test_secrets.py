"""A password in any setting is in no output: of what succeeds and what fails, for people, programs and debuggers."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Limpet
from tests.cli.test_streams import ANSWERS

SECRET = "hunter2"
SETTINGS = {
    "LIMPET_MLFLOW": f"http://ana:{SECRET}@127.0.0.1:9/mlflow?token={SECRET}",
    "LIMPET_DB": f"postgresql://ana:{SECRET}@127.0.0.1:9/limpet?sslpassword={SECRET}",
    "LIMPET_BLOBS": f"ftp://ana:{SECRET}@127.0.0.1:9/blobs?password={SECRET}",
}


def said_by(limpet: Limpet, *words: str) -> str:
    outcome = limpet(*words)
    return outcome.stdout + outcome.stderr


@pytest.mark.parametrize("variable", SETTINGS)
@pytest.mark.parametrize("form", [[], ["--json"], ["--debug"], ["--json", "--debug"]])
def test_no_command_shows_a_password(
    grown: Limpet, variable: str, form: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, SETTINGS[variable])
    commands = [[*typed.split(), *ANSWERS[typed]] for typed in ANSWERS if typed != "predict"]
    for words in (*commands, ["ui"], ["verify"], ["gc", "--dry-run"], ["db", "upgrade"]):
        said = said_by(grown, *words, *form)
        assert SECRET not in said, words
        assert "unexpected error" not in said, (words, said)


@pytest.mark.parametrize("variable", SETTINGS)
def test_a_new_home_tells_its_settings_without_passwords(
    new: Limpet, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = f"--{variable.removeprefix('LIMPET_').lower()}"
    for form in ([], ["--json"], ["--debug"]):
        said = said_by(new, "init", option, SETTINGS[variable], *form)
        assert SECRET not in said
        assert "unexpected error" not in said


def test_a_password_in_the_settings_file_is_shown_neither(copy: Limpet) -> None:
    (copy.home / "limpet.toml").write_text(f'mlflow = "http://ana:{SECRET}@127.0.0.1:9"\n', encoding="utf-8")
    for words in (["doctor"], ["doctor", "--json"], ["task", "list", "--debug"]):
        assert SECRET not in said_by(copy, *words)
