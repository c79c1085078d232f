"""Versions: immutable adapters of a task, numbered without gaps, known by their digest."""

from limpet.registry.versions.registration import (
    MANIFEST_FILE,
    StoredVersion,
    current,
    enter_version,
    files,
    find,
    identity,
    look_up,
    register,
    resolve,
    store_version,
)

__all__ = [
    "MANIFEST_FILE",
    "StoredVersion",
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
