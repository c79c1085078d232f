"""How the program ends: an error is what is wrong, why, and what to type next; never a traceback unasked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from limpet.cli.invocation.invocation import Invocation
from limpet.cli.invocation.suggestions import hint_for_usage
from limpet.cli.terminal.sanitize import json_text, plain
from limpet.cli.terminal.standard_streams import check_output_is_open, check_words, failure_of_output
from limpet.cli.terminal.style import paint
from limpet.errors import LimpetError
from limpet.redaction import hide_secrets

__all__ = ["run"]

_INTERRUPTED = 130


def run(main: Callable[..., Any], args: Sequence[str] | None, *more: Any, **extra: Any) -> Any:
    """Run click's `main`, say on stderr what went wrong, and exit with the code of its class."""
    typed = list(sys.argv[1:] if args is None else args)
    invocation = Invocation()
    try:
        check_output_is_open()
        check_words(typed)
        extra |= {"standalone_mode": False, "obj": invocation}
        returned = main(typed, *more, **extra)
        code = returned if isinstance(returned, int) else 0
        if failure := failure_of_output():
            raise LimpetError(
                f"The command did its work, but its answer could not be written to stdout: {failure.strerror}.",
                "df -h, then ask again: the commands that list and show change nothing",
            )
    except Exception as error:
        # it may have come before the options were read
        words = typed[: typed.index("--")] if "--" in typed else typed
        invocation.json = invocation.json or "--json" in words
        invocation.debug = invocation.debug or "--debug" in words
        code = _tell(error, invocation)
    sys.exit(code)


def _tell(error: Exception, invocation: Invocation) -> int:
    kind, message, hint, code = _describe(error)
    trace = _traceback(error) if invocation.debug else ""
    if invocation.json:
        content = {"type": kind, "message": message, "hint": hint} | ({"traceback": trace} if trace else {})
        click.echo(json_text({"schema": 1, "error": content}), err=True)
        return code
    click.echo(f"{trace}{paint('error:', fg='red', bold=True)} {plain(message, lines=True)}", err=True)
    if hint:
        click.echo(f"{paint('hint:', bold=True)} {plain(hint, lines=True)}", err=True)
    return code


def _traceback(error: Exception) -> str:
    import traceback

    return hide_secrets("".join(traceback.format_exception(error)))


def _describe(error: Exception) -> tuple[str, str, str, int]:
    """Return the type, message, hint and exit code of an error."""
    if isinstance(error, LimpetError):
        return type(error).__name__, error.message, error.hint, error.exit_code
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        path = error.ctx.command_path
        click.echo(error.ctx.get_help(), err=True)
        return "UsageError", f"{path!r} needs a command.", f"{path} --help", error.exit_code
    if isinstance(error, click.UsageError):
        message = error.message if isinstance(error, click.NoSuchOption) else error.format_message()
        return "UsageError", message[:1].lower() + message[1:], hint_for_usage(error), error.exit_code
    if isinstance(error, click.ClickException):
        return type(error).__name__, error.format_message(), "", error.exit_code
    if isinstance(error, click.Abort):
        return "Interrupted", "interrupted.", "", _INTERRUPTED
    kind = type(error).__name__
    said = hide_secrets(" ".join(str(error).split()))
    return kind, f"unexpected error, {kind}: {said}; --debug shows the traceback.", "", 1
