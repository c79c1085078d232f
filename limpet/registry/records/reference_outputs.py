"""Probes: a few fixed inputs with the logits that a version gave for them when it was registered.

A probe is a blob beside a version, and no part of its identity. It holds the exact float32 logits and the environment
that computed them, so that replaying it tells a changed library, dtype or base from one that answers as before.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy.orm import Session

from limpet.errors import ConflictError, IntegrityError
from limpet.names import Reference
from limpet.registry.database.schema import ReferenceOutputsRow
from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.formats.strict_json import read_json
from limpet.registry.records import log
from limpet.registry.records.rows import environment_id, find_version, references
from limpet.registry.store import Store
from limpet.registry.store.blob_removal import recording
from limpet.registry.system.clock import utc_now
from limpet.registry.values import Environment

__all__ = [
    "LARGEST_OUTPUTS",
    "RecordedOutputs",
    "ReferenceOutputs",
    "StoredOutputs",
    "enter_outputs",
    "keep",
    "log_outputs",
    "of",
    "parse",
    "store_outputs",
    "write",
]

LARGEST_OUTPUTS = 1_000_000
"""Bytes that a probe's blob may have."""

_KEYS = {"schema", "inputs", "logits", "max_length", "environment"}
_MOST_INPUTS = 64


@dataclass(frozen=True)
class ReferenceOutputs:
    """What a version answered when it was registered.

    `logits` has one row for each input, of as many float32 values as the task has labels; `max_length` counts tokens;
    `environment` is where they were computed, with the dtype of the base; `digest` is that of the blob.
    """

    inputs: tuple[str, ...]
    logits: tuple[tuple[float, ...], ...]
    max_length: int
    environment: Environment
    digest: str


def write(
    inputs: Sequence[str], logits: Sequence[Sequence[float]], max_length: int, *, environment: Environment
) -> bytes:
    """Return the one byte form of a probe: canonical JSON, which `parse` reads back to the same float32 bits.

    Raises:
        IntegrityError: The logits are not finite float32 values, one row for each input.
    """
    content = {
        "schema": 1,
        "inputs": list(inputs),
        "logits": [[float(value) for value in row] for row in logits],
        "max_length": max_length,
        "environment": environment.content(),
    }
    return canonical_json(_checked(content))


def parse(data: bytes) -> ReferenceOutputs:
    """Read a probe, trusting nothing about it.

    Raises:
        IntegrityError: It is not, byte for byte, what `write` would write.
    """
    if len(data) > LARGEST_OUTPUTS:
        raise _bad(f"it has {len(data)} bytes, more than {LARGEST_OUTPUTS}")
    content = _checked(read_json(data, "The probe", canonical=True))
    return ReferenceOutputs(
        inputs=tuple(content["inputs"]),
        logits=tuple(tuple(row) for row in content["logits"]),
        max_length=content["max_length"],
        environment=Environment(**content["environment"]),
        digest=digest_bytes(data),
    )


@dataclass(frozen=True)
class StoredOutputs:
    """A probe that is durable in the blob store, and not recorded yet."""

    digest: str
    environment: Environment


def store_outputs(store: Store, data: bytes) -> StoredOutputs:
    """Store what `write` returned.

    Raises:
        IntegrityError: `data` is no probe.
        LimpetError: The store can't be written.
    """
    environment = parse(data).environment
    return StoredOutputs(store.blobs.put_bytes(data), environment)


@dataclass(frozen=True)
class RecordedOutputs:
    """The probe that a version has, by its digest; `is_new` if it was recorded just now."""

    digest: str
    is_new: bool


def enter_outputs(session: Session, version_id: int, stored: StoredOutputs) -> RecordedOutputs:
    """Record a probe in the caller's write transaction, and log nothing; a version keeps its first one."""
    earlier = session.get(ReferenceOutputsRow, version_id)
    if earlier is not None:
        return RecordedOutputs(earlier.digest, is_new=False)
    row = ReferenceOutputsRow(
        version_id=version_id,
        digest=stored.digest,
        environment_id=environment_id(session, stored.environment),
        created_at=utc_now(),
    )
    session.add(row)
    return RecordedOutputs(row.digest, is_new=True)


def log_outputs(session: Session, reference: str, kept: RecordedOutputs) -> None:
    """Log that a version that was there already has a probe now, if it is new."""
    if kept.is_new:
        log.record(session, "probe", reference, detail={"digest": kept.digest})


def keep(store: Store, version: str | Reference, data: bytes) -> None:
    """Keep the probe of a version that was registered without one: the same again changes nothing.

    Args:
        store: The open home.
        version: The version.
        data: What `write` returned.

    Raises:
        ConflictError: The version has another probe.
        IntegrityError: `data` is no probe.
        NotFoundError: There is no such version.
    """
    stored = store_outputs(store, data)
    with recording(store, "probe", [stored.digest], again=lambda: store_outputs(store, data)) as session:
        row = find_version(session, version)
        kept = enter_outputs(session, row.id, stored)
        if kept.digest != stored.digest:
            raise ConflictError(
                f"{version} has another probe already, and a probe never changes.", "limpet verify --probe"
            )
        log_outputs(session, references(session, [row.id])[row.id], kept)


def of(store: Store, version: str | Reference) -> ReferenceOutputs | None:
    """Return a version's probe; null where none was recorded.

    Raises:
        IntegrityError: The blob is missing, was changed, or is no probe.
        NotFoundError: There is no such version.
    """
    with store.database.read() as session:
        kept = session.get(ReferenceOutputsRow, find_version(session, version).id)
    return None if kept is None else parse(store.blobs.read(kept.digest))


def _checked(content: object) -> JsonObject:
    if not isinstance(content, dict) or set(content) != _KEYS or content["schema"] != 1:
        raise _bad(f"it has not exactly {', '.join(sorted(_KEYS))}, of schema 1")
    inputs, logits, length = content["inputs"], content["logits"], content["max_length"]
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise _bad("its inputs are not texts")
    if not 1 <= len(inputs) <= _MOST_INPUTS:
        raise _bad(f"it has {len(inputs)} inputs, not 1 to {_MOST_INPUTS}")
    if type(length) is not int or length < 1:
        raise _bad("its max_length is not a count of tokens")
    _check_logits(logits, len(inputs))
    _check_environment(content["environment"])
    return content


def _check_logits(logits: object, inputs: int) -> None:
    if not isinstance(logits, list) or len(logits) != inputs or not all(isinstance(row, list) for row in logits):
        raise _bad("its logits are not one row for each input")
    if not logits[0] or any(len(row) != len(logits[0]) for row in logits):
        raise _bad("the rows of its logits have no length in common")
    if not all(_is_float32(value) for row in logits for value in row):
        raise _bad("a logit is not a finite float32 number")


def _check_environment(content: object) -> None:
    names = {field.name for field in fields(Environment)}
    # what was recorded before there were others does not say which activations there were
    if not isinstance(content, dict) or {"activations", *content} != names or type(content["threads"]) is not int:
        raise _bad("its environment is not one")
    if not all(isinstance(value, str) for name, value in content.items() if name != "threads"):
        raise _bad("a part of its environment is not a text")


def _is_float32(value: object) -> bool:
    # an int or a bool would come back as another byte form
    if type(value) is not float or not math.isfinite(value):
        return False
    try:
        return bool(struct.unpack("<f", struct.pack("<f", value))[0] == value)
    except OverflowError:
        return False


def _bad(why: str) -> IntegrityError:
    return IntegrityError(f"This is not a sound probe: {why}.", "limpet verify")
