"""One byte form of every JSON value, and the digests that limpet knows things by."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from limpet.errors import IntegrityError, UsageError

__all__ = ["CHUNK", "canonical_json", "check_digest", "digest_bytes", "digest_file", "digest_json"]

CHUNK = 1 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def canonical_json(value: object) -> bytes:
    """Return the one UTF-8 form of a JSON value: keys sorted, no spaces, finite numbers only.

    Raises:
        UsageError: The value has a part that JSON can't hold, or a number that is not finite.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"This value can't be kept as JSON, because {error}.",
            "use finite numbers, strings, lists and tables with string keys",
        ) from error


def digest_bytes(data: bytes) -> str:
    """Return `sha256:` and the SHA-256 of `data` in 64 hex digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_json(value: object) -> str:
    """Return the digest of a value's canonical JSON."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """Return the digest of a file's bytes, read in chunks of 1 MiB."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
    return "sha256:" + sha.hexdigest()


def check_digest(digest: str) -> str:
    """Return `digest` if it has the form of one; only then may a path be made of it.

    Raises:
        IntegrityError: It is not `sha256:` and 64 lower-case hex digits.
    """
    if not _DIGEST.fullmatch(digest):
        raise IntegrityError(f"{digest[:80]!r} is not a digest: a record was changed.", "limpet verify")
    return digest
