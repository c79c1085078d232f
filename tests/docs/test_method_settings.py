"""The reference has the settings of every method as its dataclass has them."""

from __future__ import annotations

import runpy

from limpet.training import methods
from tests.docs.pages import DOCS, REFERENCE


def test_the_page_has_every_setting_of_every_method_as_it_is() -> None:
    script = runpy.run_path(str(DOCS / "method_settings.py"))
    page = (REFERENCE / "methods.md").read_text(encoding="utf-8")
    assert page == script["with_tables"](page), f"type: {script['COMMAND']}"
    for name in methods.names():
        if ":" not in name and methods.get(name).explain_settings():
            assert script["table"](name) in page, f"the section of {name} has no table of its settings"
