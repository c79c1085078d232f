"""Make docs/reference/commands.md out of what every command says under `--help`.

python docs/commands.py            # print the page
python docs/commands.py --write    # write it
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import click

from limpet.cli import cli

PAGE = Path(__file__).parent / "reference" / "commands.md"
COMMAND = "python docs/commands.py --write"
COLUMNS = 100
WIDTH = {"terminal_width": COLUMNS, "max_content_width": COLUMNS}
# what is the same under every command stands once, at the top of the page
SHARED = re.compile(r"\nEverywhere:\n(?:  .*\n)+")
HELP = re.compile(r"(?:\nOptions:\n)?  -h, --help +Show this message and exit\.\n(?=\n|\Z)")
BEGINNING = f"""\
# Commands

<!-- made by `{COMMAND}`; a test compares it with the program -->

What every command prints under `--help`. The exit codes are on the page of [errors](errors.md).

## Options of every command

They can stand before or after the command's name. `-h` and `--help` show the command's help.

```text
{{shared}}
```
"""


def page() -> str:
    """Return the page: the options of every command, then a section for each command in the order of `--help`."""
    root = click.Context(cli, info_name="limpet", **cli.context_settings | WIDTH)
    shared = SHARED.search(f"{cli.get_help(root)}\n")
    assert shared is not None
    return BEGINNING.format(shared=_plain(shared[0].partition(":\n")[2])) + "".join(sections(cli, root))


def sections(group: click.Group, context: click.Context) -> Iterator[str]:
    """Yield the sections of a group's commands; a verb follows its noun, one heading lower."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, **command.context_settings | WIDTH)
        level = "#" * inner.command_path.count(" ") + "#"
        own = HELP.sub("", SHARED.sub("", f"{command.get_help(inner)}\n"))
        yield f"\n{level} {inner.command_path}\n\n```text\n{_plain(own)}\n```\n"
        if isinstance(command, click.Group):
            yield from sections(command, inner)


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page(), end="")


if __name__ == "__main__":
    main()
