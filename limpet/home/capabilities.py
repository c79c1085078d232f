"""`home.methods`: what every method can do, and whether it works on the home's base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from limpet.errors import NotFoundError, UsageError
from limpet.home.results import MethodInfo, MethodSettings, method_info
from limpet.registry.records import bases

if TYPE_CHECKING:
    from limpet.registry.store import Store
    from limpet.registry.values import BaseRecord
    from limpet.training.progress import Progress

__all__ = ["describe_method", "describe_methods"]


def describe_methods(store: Store, progress: Progress) -> tuple[MethodInfo, ...]:
    """Return every method with what it can do; see `limpet.home.Home.methods`."""
    from limpet.training import methods

    try:
        base = bases.get(store)
    except NotFoundError:
        base = None
    everything = [methods.get(name) for name in methods.names()]
    if base is None:
        return tuple(method_info(method, methods.works_on(method), None, nearest=None) for method in everything)
    if methods.was_tried(base):
        reasons = {method.name: methods.obstacle(method, base) for method in everything}
    else:
        reasons = _try_methods(store, base, progress)
    return tuple(
        method_info(
            method,
            methods.works_on(method),
            reasons[method.name],
            nearest=_first(method.alternatives, reasons),
        )
        for method in everything
    )


def describe_method(name: str) -> MethodSettings:
    """Return what `--set` takes for a method; see `limpet.home.Home.method`."""
    from limpet.training import methods

    try:
        method = methods.get(name)
    except UsageError as error:
        raise NotFoundError(error.message, error.hint) from error
    return MethodSettings(
        name=method.name,
        summary=method.summary,
        learning_rate=method.learning_rate,
        task_types=tuple(sorted(method.capabilities.task_types)),
        settings=method.explain_settings(),
    )


def _try_methods(store: Store, base: BaseRecord, progress: Progress) -> dict[str, str]:
    from limpet.training.base import locate
    from limpet.training.base.pretrained import load_config
    from limpet.training.model.method_compatibility import tiny_model, try_all

    progress.note(f"no method was tried on {base.architecture} models yet: trying all of them")
    return try_all(tiny_model(load_config(locate.check(store, base))))


def _first(names: Sequence[str], reasons: Mapping[str, str]) -> str | None:
    """Return the first method that nothing speaks against."""
    return next((name for name in names if not reasons[name]), None)
