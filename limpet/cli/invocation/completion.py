"""Words that a shell completes: names in the home, methods, types, files; click completes commands and options.

It runs at every press of a key: it is quick, says nothing, and leaves no trace, whatever state the home is in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import ClassVar

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from limpet.cli.invocation.invocation import Invocation
from limpet.names import shown_method
from limpet.registry.database.names import Names, read_names

__all__ = ["SHELLS", "VARIABLE", "complete_parameter", "script_of", "use_quick_shells"]

VARIABLE = "_LIMPET_COMPLETE"
"""What a shell's function sets when it asks; click's own name for it."""
_FILES = ("file", "chat_template", "folder", "path", "out", "paths")
_WORDS = {
    "dtype": ("auto", "bfloat16", "float32"),
    "near_duplicates": ("drop", "report", "keep"),
    "overlong": ("cut", "drop", "refuse"),
    "format": ("auto", "columns", "messages", "sharegpt", "prompt-completion", "alpaca"),
}

# COMP_WORDS is split at colons and at signs, which names have in them: the line says what was typed, and of an answer
# bash wants what stands behind the last of its own word breaks
_BASH = r"""%(complete_func)s() {
    local line="${COMP_LINE:0:$COMP_POINT}" kind value typed rest prefix
    typed="${line##*[[:space:]]}"
    rest="${typed##*["$COMP_WORDBREAKS"]}"
    prefix="${typed:0:$((${#typed} - ${#rest}))}"
    COMPREPLY=()
    while IFS=',' read -r kind value; do
        case "$kind" in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain) COMPREPLY+=("${value#"$prefix"}") ;;
        esac
    done < <(COMP_WORDS="$line" %(complete_var)s=bash_complete "$1" 2>/dev/null)
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Quick(ShellComplete):
    """Answers with nothing where it can't answer: an error has no place on a line that is being typed."""

    def complete(self) -> str:
        """Return what is offered, a line each."""
        try:
            return super().complete()
        except Exception:
            return ""


class _Bash(_Quick, BashComplete):
    source_template: ClassVar[str] = _BASH

    def source(self) -> str:
        """Return the script; which bash reads it is seen there."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one."""
        import os

        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        if not words or line[-1:].isspace():
            return words, ""
        return words[:-1], words[-1]


class _Zsh(_Quick, ZshComplete):
    pass


class _Fish(_Quick, FishComplete):
    pass


SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}
"""The shells that words can be completed in."""


def use_quick_shells() -> None:
    """Let click answer by the classes of this file."""
    for name, shell in SHELLS.items():
        add_completion_class(shell, name)


def script_of(shell: str, cli: click.Command) -> str:
    """Return what a shell reads at its start to complete words of `limpet`."""
    return SHELLS[shell](cli, {}, "limpet", VARIABLE).source()


def complete_parameter(parameter: click.Parameter, ctx: click.Context, typed: str) -> list[CompletionItem[str]]:
    """Return what is offered for a parameter of a command.

    Args:
        parameter: The argument or option whose word is typed.
        ctx: The command's.
        typed: The word so far.
    """
    name = str(parameter.name)
    if name in _FILES:
        return [CompletionItem(typed, type="file")]
    if name in ("data", "base", "spec"):
        kept = _offer(_samples(name), typed)
        return kept or [CompletionItem(typed, type="file")]
    words = _WORDS.get(name) or _SOURCES.get((_noun(ctx), name), _SOURCES.get(("", name), _nothing))(ctx, typed)
    return _offer(words, typed)


def _noun(ctx: click.Context) -> str:
    """Return the command that is typed, with the noun that it stands under."""
    parent = ctx.parent.info_name if ctx.parent and ctx.parent.parent else None
    return f"{parent} {ctx.info_name}" if parent else str(ctx.info_name)


def _offer(words: Iterable[str], typed: str) -> list[CompletionItem[str]]:
    return [CompletionItem(word) for word in dict.fromkeys(words) if word.startswith(typed)]


def _nothing(ctx: click.Context, typed: str) -> Iterable[str]:
    return ()


def _tasks(ctx: click.Context, typed: str) -> Iterable[str]:
    return _names(ctx).tasks


def _references(ctx: click.Context, typed: str) -> Iterable[str]:
    """Tasks, and behind an at sign, or where only one task is left, its versions and aliases."""
    names = _names(ctx)
    tasks = [task for task in names.tasks if task.startswith(typed)]
    if "@" not in typed and len(tasks) != 1:
        return tasks
    task = typed.partition("@")[0] if "@" in typed else tasks[0]
    named = [reference for reference in (*names.versions, *names.aliases) if reference.startswith(f"{task}@")]
    return [*tasks, *named, *([f"{task}@latest"] if named else [])]


def _aliases(ctx: click.Context, typed: str) -> Iterable[str]:
    """The aliases of the task that was typed before, else those of all; `production` is always one to choose."""
    before = str(ctx.params.get("task") or ctx.params.get("version") or "").partition("@")[0]
    named = [reference.split("@") for reference in _names(ctx).aliases]
    return ["production", *(alias for task, alias in named if before in ("", task))]


def _alias_names(ctx: click.Context, typed: str) -> Iterable[str]:
    return ["production", *(reference.partition("@")[2] for reference in _names(ctx).aliases)]


def _streams(ctx: click.Context, typed: str) -> Iterable[str]:
    return _names(ctx).streams


def _home_and_streams(ctx: click.Context, typed: str) -> Iterable[str]:
    return ("home", *_names(ctx).streams)


def _bases(ctx: click.Context, typed: str) -> Iterable[str]:
    return _names(ctx).bases


def _methods(ctx: click.Context, typed: str) -> Iterable[str]:
    # a table that was made by trying; the methods themselves take seconds to import
    from importlib import resources

    table = json.loads((resources.files("limpet.training.methods") / "works.json").read_text(encoding="utf-8"))
    return sorted({shown_method(method) for works in table.values() for method in works})


def _types(ctx: click.Context, typed: str) -> Iterable[str]:
    from limpet.training.task_types import names

    return names()


def _samples(name: str) -> list[str]:
    if name == "data":
        from limpet.training.data.reading.sample_corpora import CORPORA

        return [f"sample:{corpus}" for corpus in CORPORA]
    from limpet.training.base.sample_wheels import SAMPLE_BASES

    return [f"sample:{base}" for base in SAMPLE_BASES]


@cache
def _read(home: Path | None) -> Names:
    from limpet.registry.settings import load_settings
    from limpet.registry.system.home_folder import find_home

    folder = find_home(Path.cwd(), home)
    return read_names(load_settings(folder).db, folder)


def _names(ctx: click.Context) -> Names:
    invocation = ctx.find_object(Invocation)
    return _read(None if invocation is None else invocation.home)


_SOURCES: dict[tuple[str, str], Callable[[click.Context, str], Iterable[str]]] = {
    ("", "task"): _tasks,
    ("predict", "task"): _references,
    ("", "version"): _references,
    ("", "versions"): _references,
    ("", "a"): _references,
    ("", "b"): _references,
    ("", "start_from"): _references,
    ("", "expect"): _references,
    ("", "subject"): _references,
    ("", "alias"): _aliases,
    ("", "promote"): _alias_names,
    ("", "protect"): _alias_names,
    ("", "unprotect"): _alias_names,
    ("", "stream"): _home_and_streams,
    ("stream show", "name"): _streams,
    ("base show", "name"): _bases,
    ("base verify", "name"): _bases,
    ("methods", "name"): _methods,
    ("", "method"): _methods,
    ("", "type"): _types,
    **{(f"task {verb}", "name"): _tasks for verb in ("show", "revise", "rename", "remove")},
    **{("task diff", side): _tasks for side in ("a", "b")},
}
"""What completes a parameter, by the command and the parameter's name; an empty command stands for all others."""
