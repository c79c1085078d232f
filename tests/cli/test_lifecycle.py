"""Deletion, policy, collection, tags, notes and the log, as they are typed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click
import pytest

from tests.cli.conftest import Limpet
from tests.cli.test_help import EVERY

DESTRUCTIVE = ("adapter delete", "gc", "task remove")


def asked(limpet: Limpet, answer: str, *words: str) -> tuple[int, str]:
    """Call on a terminal where somebody types `answer`; return the exit code and all that was shown."""
    controller, terminal = os.openpty()
    command = [sys.executable, "-m", "limpet", *words, "--home", str(limpet.home)]
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    process = subprocess.Popen(command, env={**limpet.environment, "NO_COLOR": "1"}, **streams)
    os.close(terminal)
    os.write(controller, f"{answer}\n".encode())
    shown = b""
    while True:
        try:
            shown += os.read(controller, 65_536)
        except OSError:
            # the terminal has no writer any more
            break
    os.close(controller)
    return process.wait(), shown.decode()


@pytest.mark.parametrize("typed", DESTRUCTIVE)
def test_a_destructive_command_has_a_dry_run_and_a_yes(typed: str) -> None:
    options = {name for one in EVERY[typed].params if isinstance(one, click.Option) for name in one.opts}
    assert {"--dry-run", "--yes"} <= options


def test_on_a_terminal_a_deletion_asks_and_takes_no_for_an_answer(copy: Limpet) -> None:
    code, shown = asked(copy, "n", "adapter", "delete", "place@1", "--reason", "bad data")
    assert (code, "Delete place@1 for good? [y/N]:" in shown) == (1, True)
    assert "error: Nothing was done, because the answer was no." in shown
    assert copy.ok("adapter", "show", "place@1", "--json").json["deleted"] is None
    code, shown = asked(copy, "y", "adapter", "delete", "place@1", "--reason", "bad data")
    assert (code, "deleted place@1 (" in shown) == (0, True)


def test_without_a_terminal_a_deletion_needs_yes(copy: Limpet) -> None:
    words = ("adapter", "delete", "place@1", "--reason", "bad data")
    refused = copy(*words)
    assert (refused.code, refused.stdout) == (2, "")
    assert "hint: add --yes to do it, or --dry-run to see what would happen" in refused.stderr
    looked = copy.ok(*words, "--dry-run", "--json").json
    assert (looked["dry_run"], looked["deleted"]["reason"]) == (True, "bad data")
    assert copy.ok("adapter", "show", "place@1", "--json").json["deleted"] is None
    done = copy.ok(*words, "--yes", "--json").json
    assert (done["dry_run"], done["version"], done["deleted"]["reason"]) == (False, 1, "bad data")
    # as after a death that left it unclear whether it was done
    assert copy.ok(*words, "--yes", "--json").json == done
    again = copy(*words[:-1], "another reason", "--yes", "--json")
    assert (again.code, again.error["type"]) == (3, "NotFoundError")
    assert "bad data" in again.error["message"]
    assert "place@1" not in copy.ok("adapter", "list").stdout


def test_what_can_not_be_deleted_is_refused_before_anybody_is_asked(copy: Limpet) -> None:
    refused = copy("adapter", "delete", "wet@1", "--reason", "bad data")
    assert (refused.code, refused.stderr.splitlines()[0]) == (
        4,
        "error: wet@1 can't be deleted: wet@production stands there.",
    )
    assert copy("adapter", "delete", "place@1").code == 2
    assert copy("adapter", "delete", "place@latest", "--reason", "bad data", "--yes").code == 2


def test_a_collection_only_looks_unless_it_is_told(copy: Limpet) -> None:
    copy.ok("adapter", "delete", "place@1", "--reason", "bad data", "--yes")
    time.sleep(0.01)
    for words in ((), ("--dry-run",), ("--dry-run", "--yes")):
        looked = copy.ok("gc", "--grace", "0", *words, "--json").json
        assert looked["dry_run"]
        assert looked["deleted"]["count"] > 0
    refused = copy("gc", "--grace", "0", "--no-dry-run")
    assert refused.code == 2
    assert "There is no terminal to ask on" in refused.stderr
    assert copy.ok("gc", "--yes", "--json").json["bytes"] == 0
    done = copy.ok("gc", "--grace", "0", "--yes", "--json").json
    assert (done["dry_run"], done["bytes"]) == (False, looked["bytes"])
    assert copy.ok("gc", "--grace", "0").stdout.splitlines()[-1] == "would remove 0 files (0 B); --yes does it"
    assert copy.ok("verify").stdout == "everything is as it was recorded\n"


@pytest.mark.parametrize("grace", ["", "soon", "-1", "24 h", "1w", "9999999999"])
def test_a_grace_period_is_a_time(copy: Limpet, grace: str) -> None:
    refused = copy("gc", f"--grace={grace}")
    assert (refused.code, "--grace takes a time such as 24h" in refused.stderr) == (2, True)


def test_retention_is_shown_before_it_happens_and_named_after(copy: Limpet) -> None:
    copy.ok("policy", "set", "--keep-last", 1, "--reason", "the disk is small")
    assert "retention lets go: place@1" in copy.ok("gc").stdout
    assert "removed 1 version and 0 files (0 B)" in copy.ok("gc", "--yes").stdout
    assert (
        copy.ok("adapter", "show", "place@1", "--json").json["deleted"]["reason"] == "retention: beyond the newest 1"
    )


def test_rules_are_shown_and_set_one_by_one(copy: Limpet) -> None:
    empty = {"schema": 1, "protected_aliases": [], "keep_last": None, "keep_days": None}
    assert copy.ok("policy", "show", "--json").json == empty
    shown = copy.ok("policy", "set", "--protect", "live", "--protect", "production", "--keep-days", 7)
    assert shown.stdout.splitlines() == [
        "protected aliases  live, production",
        "keep last          -",
        "keep days          7",
    ]
    words = ("policy", "set", "--unprotect", "live", "--unprotect", "production", "--keep-days", "none")
    assert copy.ok(*words, "--json").json == empty
    for wrong in (("--keep-last", "few"), ("--keep-last", "0"), ("--protect", "latest"), ()):
        assert copy("policy", "set", *wrong).code == 2
    assert copy("policy", "set", "--unprotect", "live").code == 3


def test_a_protected_alias_stops_a_training_before_it_begins(copy: Limpet) -> None:
    copy.ok("policy", "set", "--protect", "production")
    before = copy.ok("adapter", "list", "--json").json
    started = time.monotonic()
    refused = copy("train", "wet", "--epochs", 1000, "--promote", "production")
    assert (refused.code, "The alias production is protected" in refused.stderr) == (4, True)
    assert time.monotonic() - started < 5
    assert copy.ok("adapter", "list", "--json").json == before
    moved = copy("adapter", "rollback", "wet", "production", "--expect", "wet@9", "--reason", "x")
    assert (moved.code, "not as expected" in moved.stderr) == (4, True)


def test_tags_and_notes_are_shown_with_the_version_and_its_lineage(copy: Limpet) -> None:
    assert copy.ok("adapter", "tag", "wet@production").stdout == ""
    assert copy.ok("adapter", "tag", "wet@1", "owner=ana", "goal=a=b").stdout == "goal   a=b\nowner  ana\n"
    left = copy.ok("adapter", "tag", "wet@production", "--remove", "goal", "--json").json
    assert left == {"schema": 1, "task": "wet", "version": 1, "tags": {"owner": "ana"}}
    assert copy("adapter", "tag", "wet@1", "owner").code == 2
    assert copy("adapter", "tag", "wet@1", "owner=a", "owner=b").code == 2
    assert (
        copy.ok("adapter", "note", "wet@1", "Weak on capitals.", "--json").json["note"]["text"] == "Weak on capitals."
    )
    shown = copy.ok("adapter", "show", "wet@production", "--json").json
    assert shown["tags"] == {"owner": "ana"}
    assert [note["text"] for note in shown["notes"]] == ["Weak on capitals."]
    assert shown["lineage"]["steps"] == [{"stream": "home", "arm": "isolated", "seed": 0, "step": 2}]
    assert shown["lineage"]["data_digest"] == shown["data_digest"]
    text = copy.ok("adapter", "show", "wet@1").stdout
    assert "addition 2 of this home" in text
    assert ": Weak on capitals." in text


def test_the_log_is_paged_and_narrowed(copy: Limpet) -> None:
    copy.ok("adapter", "note", "wet@1", "first")
    copy.ok("adapter", "note", "wet@1", "second")
    page = copy.ok("log", "--limit", 2, "--json").json
    assert [event["action"] for event in page["events"]] == ["note", "note"]
    following = copy.ok("log", "--limit", 1, "--cursor", page["cursor"], "--json").json
    assert following["events"][0]["action"] != "note"
    narrowed = copy.ok("log", "--subject", "wet@production", "--json").json
    assert ([event["action"] for event in narrowed["events"]], narrowed["cursor"]) == (["promote"], None)
    table = copy.ok("log", "--limit", 1)
    assert table.stdout.splitlines()[0].split() == ["when", "(UTC)", "who", "action", "subject", "detail"]
    assert table.stderr.startswith("more: --cursor ")
    for wrong in (("--limit", 0), ("--cursor", "x"), ("--subject", "\udcff")):
        assert copy("log", *wrong).code == 2
