"""`limpet policy show|set`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from limpet.cli.invocation.command import Noun
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.errors import UsageError

if TYPE_CHECKING:
    from limpet.registry.records.policy import Policy

__all__ = ["command"]


@click.group("policy", cls=Noun)
def command() -> None:
    """The rules of the home: protected aliases, and which versions retention keeps."""


@command.command()
@pass_invocation
def show(invocation: Invocation) -> None:
    """Show the rules."""
    _show(invocation, invocation.open().policy.show())


@command.command("set")
@click.option("--protect", multiple=True, metavar="ALIAS", help="Protect an alias in all tasks; repeatable.")
@click.option("--unprotect", multiple=True, metavar="ALIAS", help="Protect an alias no longer; repeatable.")
@click.option("--keep-last", metavar="N|none", help="Retention keeps the newest N adapters of each task.")
@click.option("--keep-days", metavar="D|none", help="Retention keeps adapters for D days.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the log.")
@pass_invocation
def set_(
    invocation: Invocation,
    protect: tuple[str, ...],
    unprotect: tuple[str, ...],
    *,
    keep_last: str | None,
    keep_days: str | None,
    reason: str,
) -> None:
    """Change some rules, and leave the others as they are."""
    if not (protect or unprotect or keep_last or keep_days):
        raise UsageError("No rule was given, so none would change.", "limpet policy set --protect production")
    policy = invocation.open().policy.set(
        protect=protect,
        unprotect=unprotect,
        keep_last=_number("--keep-last", keep_last),
        keep_days=_number("--keep-days", keep_days),
        reason=reason,
    )
    _show(invocation, policy)


def _number(option: str, text: str | None) -> int | Literal["none"] | None:
    if text is None:
        return None
    if text == "none":
        return "none"
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"{option} takes a number or none, not {text!r}.", f"{option} 10, or {option} none")
    return int(text)


def _show(invocation: Invocation, policy: Policy) -> None:
    from limpet.cli.terminal import output

    if invocation.json:
        output.emit(**output.to_json(policy))
        return
    output.fields_table(
        [
            ("protected aliases", policy.protected_aliases or None),
            ("keep last", policy.keep_last),
            ("keep days", policy.keep_days),
        ]
    )
