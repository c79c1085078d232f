"""What every destructive command shares: `--dry-run`, and a question on a terminal unless `--yes`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from limpet.errors import LimpetError, UsageError

__all__ = ["confirm", "destructive"]

Function = TypeVar("Function", bound=Callable[..., Any])


def destructive(function: Function) -> Function:
    """Give a command the options `--dry-run` and `--yes`; it calls `confirm` before it acts."""
    yes = click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal to ask on.")
    dry_run = click.option("--dry-run", is_flag=True, help="Show what would happen, and do nothing.")
    return dry_run(yes(function))


def confirm(question: str, yes: bool) -> None:
    """Return if the answer is yes: by `--yes`, or typed on the terminal.

    Args:
        question: What is about to happen, as a question: `Delete news@3 for good?`
        yes: Whether `--yes` was typed.

    Raises:
        UsageError: There is no terminal to ask on, and no `--yes`.
        LimpetError: The answer was no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{question} There is no terminal to ask on, so nothing was done.",
            "add --yes to do it, or --dry-run to see what would happen",
        )
    if not click.confirm(question, err=True):
        raise LimpetError("Nothing was done, because the answer was no.")
