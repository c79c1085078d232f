"""What was renamed keeps working under its old name, with one note, and is the same thing in every record."""

from __future__ import annotations

import json

import pytest

from limpet.forgetting.stream.stream_file import parse_stream
from limpet.training.learning.settings import TrainingSettings
from tests.cli.conftest import Limpet

QUICK = ("--epochs", 1, "--dtype", "float32", "--no-monitor")


def test_a_method_called_as_before_is_the_same_method_and_the_same_version(copy: Limpet) -> None:
    old = copy.ok("train", "wet", "--method", "probe", *QUICK)
    assert old.stderr.count("method probe is called linear-probe now") == 1
    new = copy.ok("train", "wet", "--method", "linear-probe", *QUICK)
    assert "is called" not in new.stderr
    # the second run came to the bytes of the first, so nothing was registered anew
    assert "(linear-probe, score" in new.stdout
    listed = copy.ok("adapter", "list", "--method", "linear-probe", "--json").json["adapters"]
    assert [(item["task"], item["method"]) for item in listed] == [("wet", "probe")]
    assert copy.ok("adapter", "list", "--method", "probe", "--json").json["adapters"] == listed


def test_what_is_disabled_may_be_typed_as_before(copy: Limpet) -> None:
    old = copy.ok("train", "wet", "--without", "quick-layers", *QUICK)
    assert old.stderr.count("--without is called --disable now") == 1
    new = copy.ok("train", "wet", "--disable", "quick-layers", *QUICK, "--json").json
    assert new["created"] is False
    version = copy.ok("adapter", "show", "wet@latest", "--json").json
    assert version["config"]["training"]["without"] == ["quick-layers"]
    assert "--without " not in copy.ok("train", "--help").stdout


def test_methods_knows_both_names(grown: Limpet) -> None:
    assert grown.ok("methods", "linear-probe").stdout.startswith("linear-probe: ")
    assert "is called linear-probe now" in grown.ok("methods", "probe").stderr
    assert grown.ok("methods", "probe", "--quiet").stderr == ""
    table = grown.ok("methods").stdout
    assert "\nlinear-probe " in table and "\nprobe " not in table
    assert "Did you mean linear-probe?" in grown("methods", "linear-prob").stderr


STREAM = {
    "name": "s",
    "tasks": ["a"],
    "training": {"disable": ["cast-once"]},
    "arms": [
        {"name": "x", "strategy": "isolated", "method": "linear-probe", "set": {"disable": ["token-budget"]}},
        {"name": "y", "strategy": "frozen", "method": "linear-probe"},
    ],
}


def test_a_stream_file_of_before_is_the_same_stream() -> None:
    as_before = json.loads(json.dumps(STREAM).replace("linear-probe", "probe").replace("disable", "without"))
    new, old = parse_stream(STREAM), parse_stream(as_before)
    assert (new.training, new.arms) == (old.training, old.arms)
    # what a stream that was begun is compared by
    assert (new.arms[0].method, dict(new.training)) == ("probe", {"without": ["cast-once"]})
    assert new.notes == ()
    assert old.notes == ("without is called disable now", "method probe is called linear-probe now")


def test_settings_of_python_and_of_a_run_s_record_are_read_as_before() -> None:
    new = TrainingSettings("linear-probe", disable=("cast-once",))
    with pytest.warns(DeprecationWarning, match="is called disable now"):
        old = TrainingSettings("probe", without=("cast-once",))
    assert new == old
    record = json.loads(json.dumps(new.recorded()))
    assert (record["method"], record["without"]) == ("probe", ["cast-once"])
    assert TrainingSettings.from_record(record) == new
