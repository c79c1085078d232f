"""`home.policy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from limpet.home.public import public
from limpet.registry.records import policy

if TYPE_CHECKING:
    from limpet.home.context import HomeContext
    from limpet.registry.records.policy import Policy

__all__ = ["Policies"]


@public("home.policy")
class Policies:
    """`home.policy`: the rules of the home, which hold for everyone who uses it."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def show(self) -> Policy:
        """Return the rules."""
        return policy.get(self._context.store)

    def set(
        self,
        *,
        protect: Sequence[str] = (),
        unprotect: Sequence[str] = (),
        keep_last: int | Literal["none"] | None = None,
        keep_days: int | Literal["none"] | None = None,
        reason: str = "",
    ) -> Policy:
        """Change some rules, `none` for no such rule any more, and leave the others as they are."""
        return policy.change(
            self._context.store,
            protect=protect,
            unprotect=unprotect,
            keep_last=keep_last,
            keep_days=keep_days,
            reason=reason,
        )
