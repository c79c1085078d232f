"""What somebody may have meant who typed a command or an option that there is not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import click

from limpet.errors import UsageError

__all__ = ["Suggesting", "hint_for_usage"]

_MEANT = {
    "add-task": "task add",
    "aliases": "adapter list",
    "check": "verify",
    "classify": "predict",
    "clean": "gc",
    "compare": "adapter diff",
    "config": "doctor",
    "create": "init",
    "dashboard": "ui",
    "del": "delete",
    "deploy": "adapter promote",
    "finetune": "train",
    "fit": "train",
    "infer": "predict",
    "info": "show",
    "learn": "train",
    "ls": "list",
    "migrate": "db upgrade",
    "mlflow": "ui",
    "models": "adapter list",
    "new": "init",
    "prune": "gc",
    "remove": "delete",
    "rm": "delete",
    "settings": "doctor",
    "test": "evaluate",
    "undo": "adapter rollback",
    "version": "--version",
    "versions": "adapter list",
}
"""What other programs call it, and what it is called here: a command with its noun, or a verb of any noun."""
_OPTIONS = {"-V": "--version", "-v": "--verbose", "-q": "--quiet", "-j": "--json", "-y": "--yes", "-o": "--out"}
_MOST = 3
# a line longer than this helps nobody
_LONGEST = 200


class Suggesting(click.Group):
    """A group that answers a command it does not have with the one that may have been meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is typed.

        Raises:
            UsageError: There is none of that name; the hint is the whole line as it may have been meant.
        """
        if args[0].startswith("-") or self.get_command(ctx, args[0]) is not None:
            return super().resolve_command(ctx, args)
        typed = " ".join((*_path(ctx)[1:], args[0]))
        raise UsageError(f"There is no command {typed!r}.", _hint(ctx, args))


def hint_for_usage(error: click.UsageError) -> str:
    """Return what to type after an option or an argument that click refuses."""
    path = " ".join(_path(error.ctx))
    if isinstance(error, click.NoSuchOption) and error.ctx:
        if option := _option(error, error.ctx.command.params):
            return f"{path} {option}, see {path} --help"
    elif isinstance(error, click.MissingParameter) and error.ctx:
        needed = [
            parameter.make_metavar(error.ctx)
            if isinstance(parameter, click.Argument)
            else _usage(parameter, parameter.opts[0])
            for parameter in error.ctx.command.params
            if parameter.required
        ]
        return f"{' '.join((path, *needed))}, see {path} --help"
    return f"{path} --help"


def _usage(option: click.Parameter, name: str) -> str:
    return f"{name} {option.metavar or option.human_readable_name.upper()}"


def _option(error: click.NoSuchOption, parameters: Sequence[click.Parameter]) -> str:
    """Return the option that was meant, with what it takes: what others call so, or the one that is nearest."""
    options = {
        name: parameter
        for parameter in parameters
        if isinstance(parameter, click.Option) and not parameter.hidden
        for name in parameter.opts
    }
    other = _OPTIONS.get(error.option_name, "")
    name = other if other in options else next(iter(get_close_matches(error.option_name, options, n=1)), "")
    if not name or options[name].is_flag:
        return name
    return _usage(options[name], name)


def _hint(ctx: click.Context, args: Sequence[str]) -> str:
    """Return the line as it was meant, with what stood behind the command; or a few, where it may be several."""
    program, *nouns = _path(ctx)
    if args[0] == "help":
        return shlex.join((program, *nouns, *(word for word in args[1:2] if not word.startswith("-")), "--help"))
    meant = _meant(ctx, args[0])[:_MOST]
    if not meant:
        return " ".join((program, *nouns, "--help"))
    if len(meant) == 1:
        rest = "" if meant[0].startswith("--") else shlex.join(args[1:])
        return " ".join((program, meant[0], *([rest] if 0 < len(rest) <= _LONGEST else [])))
    return ", or ".join(f"{program} {command}" for command in meant)


def _meant(ctx: click.Context, typed: str) -> list[str]:
    """Return the commands that a word may stand for, the likeliest alone."""
    noun, every = " ".join(_path(ctx)[1:]), list(_every(ctx.find_root()))
    here = [command for command in every if noun and command.startswith(f"{noun} ")]
    other = _MEANT.get(typed, "")
    names = {command: command.rpartition(" ")[2] for command in every}
    return (
        [command for command in here if names[command] == other]
        or _nearest(typed, here, names)
        or [command for command in every if names[command] == typed]
        or [command for command in every if other in (command, names[command])]
        or ([other] if other.startswith("--") else [])
        or _nearest(typed, [command for command in every if " " not in command], names)
        or _nearest(typed, every, names)
    )


def _nearest(typed: str, commands: Sequence[str], names: dict[str, str]) -> list[str]:
    nearest = get_close_matches(typed, [names[command] for command in commands], n=1)
    return [command for command in commands if names[command] in nearest]


def _every(root: click.Context) -> Iterator[str]:
    """Every command, and every verb behind its noun."""
    assert isinstance(root.command, click.Group)
    for name in root.command.list_commands(root):
        yield name
        command = root.command.get_command(root, name)
        if isinstance(command, click.Group):
            yield from (f"{name} {verb}" for verb in command.list_commands(root))


def _path(ctx: click.Context | None) -> list[str]:
    """The program's name, and the nouns that were typed."""
    names: list[str] = []
    while ctx is not None and ctx.parent is not None:
        names.append(str(ctx.info_name))
        ctx = ctx.parent
    return ["limpet", *names[::-1]]
