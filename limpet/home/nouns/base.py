"""`home.base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.home.context import describe_base
from limpet.home.public import public
from limpet.home.verification import verify_base
from limpet.registry.records import bases
from limpet.training.base.holding.recipes import with_recipe

if TYPE_CHECKING:
    from limpet.home.context import HomeContext
    from limpet.registry.values import BaseRecord
    from limpet.training.progress import Progress

__all__ = ["Bases"]


@public("home.base")
class Bases:
    """`home.base`: the frozen pretrained model, by its fingerprint."""

    def __init__(self, context: HomeContext) -> None:
        self._context = context

    def add(
        self,
        spec: str,
        progress: Progress | None = None,
        *,
        dtype: str | None = None,
        quantize: str | None = None,
    ) -> BaseRecord:
        """Fetch a base, check that its answers follow from its files, fingerprint it and keep the fingerprint.

        Args:
            spec: The base SPEC; `SPEC#nf4` says what `quantize` says.
            progress: Receives what goes on.
            dtype: What its weights are held in; null or `auto` is the dtype of its files.
            quantize: `nf4` or `int8`; null for none.
        """
        return bases.add(self._context.store, describe_base(with_recipe(spec, dtype, quantize), progress))

    def show(self, name: str | None = None) -> BaseRecord:
        """Return a base's record; by default the home's."""
        return bases.get(self._context.store, name)

    def verify(self, name: str | None = None) -> BaseRecord:
        """Read all bytes of a base again and compare; raises IntegrityError where they differ."""
        return verify_base(self._context.store, name)
