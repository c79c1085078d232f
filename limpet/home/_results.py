"""What the verbs of a home return, beyond the values of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limpet.registry.values import AliasEvent, BaseRecord, VersionRecord

__all__ = ["MethodInfo", "Trained", "method_info"]


@dataclass(frozen=True)
class Trained:
    """What an addition came to.

    `created` is false where identical bytes were registered before; `row` maps every task that was evaluated to its
    score now; `promoted` is the alias's move; `warnings` are sentences about what could not be done beside it.
    """

    version: VersionRecord
    created: bool
    row: Mapping[str, float]
    promoted: AliasEvent | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class MethodInfo:
    """A method's line in the capability table; `works` is null where no base was added yet."""

    name: str
    summary: str
    works: bool | None
    reason: str
    task_types: tuple[str, ...]
    mergeable: bool
    mixed_batches: bool
    servable: bool
    quantised_base: bool
    trains_base_copy: bool
    learning_rate: float


def method_info(method: Any, base: BaseRecord | None) -> MethodInfo:
    can = method.capabilities
    works = None if base is None else base.family in can.families
    reason = "" if works is not False or base is None else f"not for {base.family} models"
    return MethodInfo(
        name=method.name,
        summary=method.summary,
        works=works,
        reason=reason,
        task_types=tuple(sorted(can.task_types)),
        mergeable=can.mergeable,
        mixed_batches=can.mixed_batches,
        servable=can.servable,
        quantised_base=can.quantised_base,
        trains_base_copy=can.trains_base_copy,
        learning_rate=method.learning_rate,
    )
