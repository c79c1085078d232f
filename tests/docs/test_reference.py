"""The reference: what the site says of commands and of Python is what the program has."""

from __future__ import annotations

import runpy

from tests.docs.pages import DOCS, REFERENCE


def test_the_reference_of_commands_is_what_help_prints() -> None:
    script = runpy.run_path(str(DOCS / "commands.py"))
    written = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    # not by assert alone, which would compare eight hundred lines before it says what to do
    same = written == script["page"]()
    assert same, f"docs/reference/commands.md is not what the commands print under --help; type: {script['COMMAND']}"
