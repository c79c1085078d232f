"""The blob store of a setting: a folder of this machine, or an object store."""

from __future__ import annotations

from pathlib import Path

from limpet.registry.blobs.local import LocalBlobs
from limpet.registry.blobs.protocol import BlobStore

__all__ = ["open_blobs"]


def open_blobs(url: str | None, default: Path, cache: Path) -> BlobStore:
    """Open the store at a folder or an fsspec URL; `default` is the folder when there is no URL.

    Args:
        url: A folder, `file://...`, or another fsspec URL such as `s3://bucket/prefix`.
        default: The folder to use without a URL; a relative folder is taken from its parent.
        cache: Where verified local copies of remote blobs are kept.
    """
    if url is None:
        return LocalBlobs(default)
    if url.startswith("file://") or "://" not in url:
        return LocalBlobs(default.parent / Path(url.removeprefix("file://")).expanduser())
    from limpet.registry.blobs.remote import open_remote

    return open_remote(url, cache)
