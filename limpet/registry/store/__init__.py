"""A home, open: what every function of the registry works on."""

from limpet.registry.store.opening import (
    adopt_store,
    check_free,
    create_store,
    new_store,
    open_store,
)
from limpet.registry.store.store import Store
from limpet.registry.system.home_folder import HOME_FOLDER, find_home

__all__ = [
    "HOME_FOLDER",
    "Store",
    "adopt_store",
    "check_free",
    "create_store",
    "find_home",
    "new_store",
    "open_store",
]
