"""The policy of a home: which aliases are protected, and which versions its retention keeps. It holds for everyone.

It lies in the database, so that no copy of the program and no setting of a shell gets round it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from limpet.errors import NotFoundError, UsageError
from limpet.names import check_alias
from limpet.registry.database.schema import PolicyRow
from limpet.registry.records import log
from limpet.registry.store import Store
from limpet.registry.system.text_checks import check_reason

__all__ = ["Policy", "change", "get", "policy_of"]


@dataclass(frozen=True)
class Policy:
    """The rules of a home.

    `protected_aliases` move only with an expectation and a reason. `keep_last` counts the newest adapters of each
    task that retention keeps, `keep_days` the days after which it may let one go; null means that there is no such
    rule, and where both are null, retention lets nothing go.
    """

    protected_aliases: tuple[str, ...] = ()
    keep_last: int | None = None
    keep_days: int | None = None


def get(store: Store) -> Policy:
    """Return the policy of a home; a new home has no rules."""
    with store.database.read() as session:
        return policy_of(session)


def policy_of(session: Session) -> Policy:
    """Return the policy as a session sees it."""
    kept: dict[str, Any] = dict(session.execute(select(PolicyRow.key, PolicyRow.value)).all())
    return Policy(tuple(kept.get("protected_aliases", ())), kept.get("keep_last"), kept.get("keep_days"))


def change(
    store: Store,
    *,
    protect: Sequence[str] = (),
    unprotect: Sequence[str] = (),
    keep_last: int | Literal["none"] | None = None,
    keep_days: int | Literal["none"] | None = None,
    reason: str = "",
) -> Policy:
    """Change some rules and leave the others; what changes nothing is not logged.

    Args:
        store: The open home.
        protect: Aliases to protect, in all tasks.
        unprotect: Aliases to protect no longer.
        keep_last: How many of the newest adapters of a task stay, `none` for no such rule, null for as it is.
        keep_days: For how many days an adapter stays, `none` for no such rule, null for as it is.
        reason: Why, for the log.

    Raises:
        NotFoundError: An alias to protect no longer is not protected.
        UsageError: An alias can't be one, or a number is out of its range.
    """
    for alias in protect:
        check_alias(alias)
    reason = check_reason(reason)
    _check_range("keep_last", keep_last, 1, most=1_000_000)
    _check_range("keep_days", keep_days, 0, most=36_500)
    with store.database.write("policy") as session:
        before = policy_of(session)
        if unknown := sorted(set(unprotect) - set(before.protected_aliases) - set(protect)):
            raise NotFoundError(f"The alias {unknown[0]!r} is not protected.", "limpet policy show")
        after = replace(
            before,
            protected_aliases=tuple(sorted({*before.protected_aliases, *protect} - set(unprotect))),
            keep_last=before.keep_last if keep_last is None else _limit(keep_last),
            keep_days=before.keep_days if keep_days is None else _limit(keep_days),
        )
        if after != before:
            for key, value in asdict(after).items():
                session.merge(PolicyRow(key=key, value=value))
            detail = {"from": asdict(before), "to": asdict(after), "reason": reason}
            log.record(session, "policy", "home", detail=detail)
        return after


def _limit(value: int | Literal["none"]) -> int | None:
    return None if value == "none" else value


def _check_range(name: str, value: int | Literal["none"] | None, least: int, *, most: int) -> None:
    if isinstance(value, int) and not least <= value <= most:
        option = name.replace("_", "-")
        raise UsageError(f"{name} can't be {value}.", f"choose --{option} from {least} to {most}, or --{option} none")
