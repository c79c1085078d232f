"""`limpet gc --cache`: what is in the cache of this machine, and how it is emptied."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Limpet


@pytest.fixture
def own(grown: Limpet, tmp_path: Path) -> Limpet:
    """A copy of the grown home, with a copy of its cache."""
    shutil.copytree(grown.home, tmp_path / "home")
    shutil.copytree(grown.cache, tmp_path / "cache")
    return Limpet(tmp_path / "home", tmp_path / "cache")


def files(limpet: Limpet) -> list[Path]:
    return [path for path in limpet.cache.rglob("*") if path.is_file()]


def test_the_cache_is_shown_and_removed_only_when_that_is_said(own: Limpet) -> None:
    before = files(own)
    for words in ((), ("--dry-run",), ("--dry-run", "--yes")):
        looked = own.ok("gc", "--cache", *words, "--json").json
        assert looked["dry_run"] and looked["folder"] == str(own.cache)
        assert looked["bytes"] == sum(path.stat().st_size for path in before) > 0
        assert {"token ids", "fingerprints"} <= looked["kinds"].keys()
    refused = own("gc", "--cache", "--no-dry-run")
    assert refused.code == 2 and "There is no terminal to ask on" in refused.stderr
    assert files(own) == before
    assert own.ok("gc", "--cache", "--grace", "1h", "--yes", "--json").json["bytes"] == 0
    done = own.ok("gc", "--cache", "--yes", "--json").json
    assert (done["dry_run"], done["bytes"], files(own)) == (False, looked["bytes"], [])
    shown = own.ok("gc", "--cache").stdout
    assert shown == f"would remove 0 items (0 B) from {own.cache}; --yes does it\n"
    # and all of it comes again
    own.ok("verify", "--probe")
    own.ok("train", "place", "--epochs", 1, "--quiet")
    assert files(own)


def test_the_cache_is_emptied_without_any_home(own: Limpet, tmp_path: Path) -> None:
    outcome = Limpet(tmp_path / "nowhere", own.cache).ok("gc", "--cache", "--yes")
    assert outcome.stdout.splitlines()[-1].startswith("removed ")
    assert files(own) == []


def test_a_size_that_is_none_is_refused_before_anything_is_computed(
    own: Limpet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_CACHE_SIZE", "lots")
    refused = own("train", "place", "--json")
    assert (refused.code, refused.error["type"]) == (2, "UsageError")
    assert "LIMPET_CACHE_SIZE" in refused.error["message"]


def test_who_learns_and_answers_while_the_cache_is_emptied_over_and_over_notices_nothing(own: Limpet) -> None:
    script = "while true; do find $LIMPET_CACHE -type f -delete; done"
    expected = own.ok("predict", "place@1", "the wave and the tide", "--json").json
    with subprocess.Popen(["sh", "-c", script], env=own.environment) as emptier:
        try:
            own.ok("train", "place", "--epochs", 1, "--quiet", "--seed", 5)
            assert own.ok("predict", "place@1", "the wave and the tide", "--json").json == expected
        finally:
            emptier.kill()


def test_a_cache_that_can_not_be_used_is_done_without_and_named_by_the_doctor(own: Limpet, tmp_path: Path) -> None:
    cache = tmp_path / "file"
    cache.write_bytes(b"")
    without = Limpet(own.home, cache)
    trained = without.ok("train", "place", "--epochs", 1, "--seed", 5, "--json").json
    assert trained["version"]["version"] == 3
    finding = next(one for one in without.ok("doctor", "--json").json["findings"] if one["name"] == "cache")
    assert finding["status"] == "warn" and "LIMPET_CACHE" in finding["hint"]
    refused = without("base", "add", "sample:minilm", "--json")
    assert (refused.code, refused.error["type"]) == (1, "LimpetError")
    assert str(cache) in refused.error["message"] and "LIMPET_CACHE" in refused.error["hint"]


def test_the_size_of_the_cache_and_its_limit_are_among_the_findings_of_the_doctor(own: Limpet) -> None:
    finding = next(one for one in own.ok("doctor", "--json").json["findings"] if one["name"] == "cache")
    assert finding == {
        "name": "cache",
        "status": "ok",
        "detail": f"0.0 of 20.0 GB in {own.cache}",
        "hint": "limpet gc --cache",
    }
