"""The pages of the documentation, read as what they say: files to save, commands to type, and what those print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES, REFERENCE = DOCS / "guides", DOCS / "reference"
PAGES = tuple(sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]))
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A line after `$ `, and the lines that the page prints under it."""

    line: str
    printed: tuple[str, ...]


@dataclass(frozen=True)
class File:
    """A fenced block that the page says to save: its info string ends in `file=NAME`."""

    name: str
    text: str


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string and its text."""

    info: str
    text: str


def address(page: Path) -> str:
    """The page's path from the repository's root."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    return [
        Block(match["info"].strip(), match["text"]) for match in _FENCE.finditer(page.read_text(encoding="utf-8"))
    ]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def steps(page: Path) -> list[File | Command]:
    """Return the files to save and the commands to type, in the page's order."""
    found: list[File | Command] = []
    for block in blocks(page):
        language, _, rest = block.info.partition(" ")
        if rest.startswith("file="):
            found.append(File(rest.removeprefix("file="), block.text))
        elif language == "console":
            found += _commands(block.text)
    return found


def _commands(text: str) -> list[Command]:
    commands: list[Command] = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        while line.endswith("\\"):
            more, _, printed = printed.partition("\n")
            line = f"{line[:-1]}{more.strip()}"
        commands.append(Command(line, tuple(printed.rstrip("\n").splitlines())))
    return commands
