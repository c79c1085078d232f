"""The cache of this machine: what can be fetched or computed again, and is not believed before it was checked.

A cache that can't be read or written is as good as none: what is computed is computed again. Only what has to lie in
a file, such as a downloaded wheel, needs it, and then it is named.
"""

from __future__ import annotations

from limpet.registry.cache.entries import keep, recall
from limpet.registry.cache.folder import cache_folder, default_cache, needed, scratch_file, scratch_folder, touch
from limpet.registry.cache.folders import open_folder
from limpet.registry.cache.space import HANDED_OUT_SECONDS, Emptied, empty, make_room, size_limit

__all__ = [
    "HANDED_OUT_SECONDS",
    "Emptied",
    "cache_folder",
    "default_cache",
    "empty",
    "keep",
    "make_room",
    "needed",
    "open_folder",
    "recall",
    "scratch_file",
    "scratch_folder",
    "size_limit",
    "touch",
]
