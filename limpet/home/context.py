"""What every noun and verb of a home works on: the open registry, and the base once somebody asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import NotFoundError
from limpet.loading import loading
from limpet.registry.records import bases
from limpet.registry.settings import DEFAULT_BASE
from limpet.registry.store import Store

if TYPE_CHECKING:
    from limpet.registry.values import BaseRecord
    from limpet.training.base.backbone import Backbone
    from limpet.training.progress import Progress

__all__ = ["HomeContext", "base_is_here", "describe_base"]


def describe_base(spec: str, progress: Progress | None = None) -> BaseRecord:
    """Fetch a base and return its record, if it can be one."""
    from limpet.training.base import locate
    from limpet.training.progress import SILENT

    with loading():
        return locate.describe(locate.resolve(spec), progress or SILENT)


def base_is_here(spec: str) -> bool:
    """Tell whether a base can be described without fetching anything."""
    from limpet.training.base.locate import is_here

    return is_here(spec)


class HomeContext:
    """An open registry and the base in memory, which is loaded once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._backbone: Backbone | None = None

    @property
    def path(self) -> Path:
        """The home's folder."""
        return self.store.path

    def base(self, progress: Progress | None = None) -> BaseRecord:
        """Return the home's base, added now if it was only named so far."""
        try:
            return bases.get(self.store)
        except NotFoundError:
            spec = self.store.settings.base or DEFAULT_BASE
            if progress:
                progress.note(f"fetching the base {spec}")
            return bases.add(self.store, describe_base(spec, progress))

    def backbone(self, progress: Progress | None = None) -> Backbone:
        """Load the home's base, once; it is checked against its fingerprint every time it is asked for.

        Raises:
            IntegrityError: The files are not those of the fingerprint.
        """
        with loading():
            from limpet.training.base import locate
            from limpet.training.base.backbone import load_backbone

        record = self.base(progress)
        backbone = self.loaded(record.digest)
        if backbone is not None:
            locate.check(self.store, record)
            return backbone
        with loading():
            backbone = load_backbone(self.store, record, self.store.settings.evaluation_dtype or "auto")
        self._backbone = backbone
        return backbone

    def loaded(self, digest: str) -> Backbone | None:
        """Return the base of this fingerprint if it is in memory."""
        backbone = self._backbone
        return backbone if backbone is not None and backbone.record.digest == digest else None

    def release(self) -> None:
        """Let the base in memory go, so that there is room for another; who asks for it next loads it again."""
        self._backbone = None
