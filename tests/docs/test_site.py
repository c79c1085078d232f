"""The site: every page is in its navigation, links and anchors lead somewhere, and it builds without the network."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import DOCS, PAGES, ROOT, File, address, prose, steps

SITE = tuple(page for page in PAGES if DOCS in page.parents)
CODE = tuple(
    path.relative_to(ROOT).as_posix()
    for folder in ("limpet", "tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
)
COLUMNS = 120
FETCHED = re.compile(r"<(?:link|script|img|iframe)\b[^>]*(?:src|href)=\"(https?:[^\"]+)")
# importable as `sitecustomize`: whoever asks for a connection dies of it
NO_NETWORK = """\
import socket

def refuse(*_):
    raise SystemExit("the site was built with a connection to the outside")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def _navigation(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry if isinstance(entry, list) else entry.values():
            yield from _navigation(inner)


def _settings() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return settings


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", title.lower()).strip() for title in titles)
    return {re.sub(r"[\s-]+", "-", word) for word in words}


def test_every_page_is_in_the_navigation_once() -> None:
    named = list(_navigation(_settings()["nav"]))
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in SITE)


def test_the_navigation_has_the_four_groups() -> None:
    groups = {name: content for entry in _settings()["nav"] for name, content in entry.items()}
    for name in ("Tutorial", "Guides", "Reference", "Explanation"):
        assert all(path.startswith(f"{name.lower()}/") for path in _navigation(groups[name])), name


@pytest.mark.parametrize("page", PAGES, ids=address)
def test_links_lead_to_files_and_headings_and_those_of_the_site_stay_in_it(page: Path) -> None:
    within = DOCS if page in SITE else ROOT
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", prose(page)):
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        assert within in other.parents and other.is_file(), target
        assert not anchor or anchor in _anchors(other), target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=address)
def test_code_that_a_page_names_by_its_path_is_there(page: Path) -> None:
    saved = {step.name for step in steps(page) if isinstance(step, File)}
    named = {name for code in re.findall(r"`([^`]+)`", prose(page)) for name in re.findall(r"[\w./-]+\.py\b", code)}
    assert sorted(name for name in named - saved if not any(f"/{file}".endswith(f"/{name}") for file in CODE)) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=address)
def test_prose_is_wrapped(page: Path) -> None:
    long = [line for line in prose(page).splitlines() if len(line) > COLUMNS and not line.startswith("|")]
    assert long == []


@pytest.mark.parametrize("page", SITE, ids=address)
def test_lists_stand_behind_an_empty_line_or_the_site_would_run_them_into_the_paragraph(page: Path) -> None:
    lines = ["", *prose(page).splitlines()]
    for before, line in pairwise(lines):
        if re.match(r"(?:[-*]|\d+\.) ", line):
            assert not before or re.match(r"(?:[-*]|\d+\.) |  ", before), line


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "index.md"], ids=address)
def test_the_scores_beside_the_picture_are_those_of_the_picture(page: Path) -> None:
    picture = (DOCS / "images" / "who-forgot-what.svg").read_text(encoding="utf-8")
    falls = re.findall(r"from (0\.\d{3}) to (0\.\d{3})", " ".join(page.read_text(encoding="utf-8").split()))
    assert len(falls) == 2
    assert all(f">{score}</text>" in picture for fall in falls for score in fall)


@pytest.mark.parametrize("script", sorted(DOCS.glob("*.py")), ids=address)
def test_scripts_of_the_pages_find_what_they_import(script: Path) -> None:
    runpy.run_path(str(script))


@pytest.mark.slow
def test_the_site_builds_without_the_network_and_a_reader_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r"<(?:link|script|img|iframe)\b[^>]*(?:src|href)=\"(https?:[^\"]+)", page.read_text("utf-8")
        )
        assert fetched == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:", sheet.read_text("utf-8")), sheet
