"""`home.base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet.errors import NotFoundError
from limpet.loading import loading
from limpet.registry.records import bases
from limpet.registry.settings import DEFAULT_BASE

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.registry.values import BaseRecord
    from limpet.training.progress import Progress

__all__ = ["Bases", "describe"]


def describe(spec: str, progress: Progress | None = None) -> BaseRecord:
    """Fetch a base and return its record, if it can be one."""
    from limpet.training.base import locate as base_files
    from limpet.training.progress import SILENT

    with loading():
        return base_files.describe(base_files.resolve(spec), progress or SILENT)


class Bases:
    """`home.base`: the frozen pretrained model, by its fingerprint."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def add(self, spec: str, progress: Progress | None = None) -> BaseRecord:
        """Fetch a base, check that its answers follow from its files, fingerprint it and keep the fingerprint."""
        return bases.add(self._home.store, describe(spec, progress))

    def show(self, name: str | None = None) -> BaseRecord:
        """Return a base's record; by default the home's."""
        return bases.get(self._home.store, name)

    def verify(self, name: str | None = None) -> BaseRecord:
        """Read all bytes of a base again and compare; raises IntegrityError where they differ."""
        from limpet.training.base import locate as base_files

        record = bases.get(self._home.store, name)
        base_files.check(self._home.store, record, reread=True)
        return record

    def ensure(self, progress: Progress | None = None) -> BaseRecord:
        """Return the home's base, added now if it was only named so far."""
        store = self._home.store
        try:
            return bases.get(store)
        except NotFoundError:
            spec = store.settings.base or DEFAULT_BASE
            if progress:
                progress.note(f"fetching the base {spec}")
            return self.add(spec, progress)
