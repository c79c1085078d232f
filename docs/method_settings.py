"""Write the tables of settings in docs/reference/methods.md again: `python docs/method_settings.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from limpet.training import methods

PAGE = Path(__file__).parent / "reference" / "methods.md"
COMMAND = "python docs/method_settings.py"
_HEAD = "| setting | type | default | meaning |\n|---|---|---|---|\n"
_TABLE = re.compile(re.escape(_HEAD) + r"(?:\|.*\n)*")


def table(name: str) -> str:
    """Return the table of a method's settings in Markdown."""
    rows = (
        f"| `{setting.name}` | {setting.type} | {_shown(setting.default)} | {setting.meaning} |\n"
        for setting in methods.get(name).explain_settings()
    )
    return _HEAD + "".join(rows)


def with_tables(page: str) -> str:
    """Return the page with the tables of its sections as they are now; a section is called by its method's name."""
    sections = re.split(r"(?m)^(?=## )", page)
    return "".join(_TABLE.sub(lambda _, part=part: table(_name(part)), part) for part in sections)


def _name(section: str) -> str:
    return section.partition("\n")[0].removeprefix("## ")


def _shown(default: object) -> str:
    if default is None:
        return "none"
    if isinstance(default, str):
        typed = json.dumps(default).strip('"')
        return f"`{typed}`" if typed else ""
    return str(default).lower()


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
