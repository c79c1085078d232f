"""A word that is no command or option leads to the one that was meant."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from limpet.cli import cli
from limpet.cli.invocation.suggestions import _MEANT, _OPTIONS
from tests.cli.test_help import EVERY


def hint_of(*typed: str) -> str:
    result = CliRunner().invoke(cli, typed)
    assert result.exit_code == 2
    assert result.stdout == ""
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    return hint.removeprefix("hint: ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("promote", "adapter promote"),
        ("promote news@3 production", "adapter promote news@3 production"),
        ("export", "adapter export"),
        ("version", "--version"),
        ("help", "--help"),
        ("help train", "train --help"),
        ("adapter help", "adapter --help"),
        ("adapter help promote", "adapter promote --help"),
        ("config", "doctor"),
        ("trian news --epochs 3", "train news --epochs 3"),
        ("tasks", "task"),
        ("rollbck", "adapter rollback"),
        ("adapter promot", "adapter promote"),
        ("adapter rm news@1", "adapter delete news@1"),
        ("adapter train news", "train news"),
        ("task ls", "task list"),
        ("db upgrad", "db upgrade"),
        ("zzzz", "--help"),
        ("adapter zzzz", "adapter --help"),
    ],
)
def test_a_command_that_is_none_leads_to_the_one_that_was_meant(typed: str, meant: str) -> None:
    assert hint_of(*typed.split()) == f"limpet {meant}"


def test_a_verb_of_several_nouns_names_them() -> None:
    assert hint_of("list") == "limpet task list, or limpet adapter list, or limpet stream list"


def test_every_word_of_other_programs_leads_to_a_command_that_there_is() -> None:
    verbs = {command.rpartition(" ")[2] for command in EVERY}
    assert [other for other in _MEANT.values() if other not in {*EVERY, *verbs, "--version"}] == []
    assert [word for word in _MEANT if word in EVERY] == []
    options = {name for command in (*EVERY.values(), cli) for option in command.params for name in option.opts}
    assert set(_OPTIONS.values()) <= options and not set(_OPTIONS) & options


def test_what_stood_behind_a_command_is_quoted_and_left_out_where_it_is_long() -> None:
    assert hint_of("classify", "news", "two words") == "limpet predict news 'two words'"
    assert hint_of("classify", "news", "long " * 100) == "limpet predict"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("-V", "limpet --version"),
        ("train news --epoch 3", "limpet train --epochs E"),
        ("predict --fil x", "limpet predict --file F"),
        ("adapter --jsn", "limpet adapter --json"),
    ],
)
def test_an_option_that_is_none_leads_to_the_nearest(typed: str, meant: str) -> None:
    assert hint_of(*typed.split()).startswith(f"{meant}, see ")


def test_an_argument_that_is_missing_is_shown_with_the_others() -> None:
    assert hint_of("adapter", "promote", "news@3") == (
        "limpet adapter promote VERSION ALIAS, see limpet adapter promote --help"
    )
    assert hint_of("task", "add", "news") == "limpet task add NAME --data SPEC, see limpet task add --help"
