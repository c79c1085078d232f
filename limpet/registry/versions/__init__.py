"""Versions: immutable adapters of a task, numbered without gaps, known by their digest."""

from limpet.registry.versions.listing import VersionQuery, current, find
from limpet.registry.versions.registration import (
    MANIFEST_FILE,
    StoredVersion,
    enter_version,
    identity,
    register,
    store_version,
)
from limpet.registry.versions.resolution import files, look_up, resolve

__all__ = [
    "MANIFEST_FILE",
    "StoredVersion",
    "VersionQuery",
    "current",
    "enter_version",
    "files",
    "find",
    "identity",
    "look_up",
    "register",
    "resolve",
    "store_version",
]
