"""Probes: kept once, byte for byte, and never trusted unread."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from limpet.errors import ConflictError, IntegrityError, NotFoundError
from limpet.registry.formats.canonical import canonical_json, digest_bytes
from limpet.registry.records import reference_outputs
from limpet.registry.store import Store
from tests.registry.homes import ENVIRONMENT, add_version


def float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


LOGITS = ((float32(0.1), float32(-3.3e-12)), (float32(2 / 3), -0.0))
DATA = reference_outputs.write(("a wave", "é"), LOGITS, 16, environment=ENVIRONMENT)


def test_the_logits_come_back_as_the_same_float32_bits(home: Store) -> None:
    add_version(home)
    reference_outputs.keep(home, "news@1", DATA)
    kept = reference_outputs.of(home, "news@1")
    assert kept is not None
    assert [[value.hex() for value in row] for row in kept.logits] == [[v.hex() for v in row] for row in LOGITS]
    assert (kept.inputs, kept.max_length, kept.environment) == (("a wave", "é"), 16, ENVIRONMENT)
    assert kept.digest == digest_bytes(DATA)


def test_a_probe_is_kept_once(home: Store) -> None:
    add_version(home)
    assert reference_outputs.of(home, "news@1") is None
    reference_outputs.keep(home, "news@1", DATA)
    reference_outputs.keep(home, "news@1", DATA)
    with pytest.raises(ConflictError, match="another probe"):
        reference_outputs.keep(
            home, "news@1", reference_outputs.write(("a wave",), ((0.5,),), 16, environment=ENVIRONMENT)
        )
    assert reference_outputs.of(home, "news@1") == reference_outputs.parse(DATA)
    with pytest.raises(NotFoundError):
        reference_outputs.keep(home, "news@2", DATA)


def test_one_probe_may_serve_two_versions(home: Store) -> None:
    add_version(home)
    add_version(home, seed=1)
    reference_outputs.keep(home, "news@1", DATA)
    reference_outputs.keep(home, "news@2", DATA)
    assert reference_outputs.of(home, "news@1") == reference_outputs.of(home, "news@2")


def changed(**changes: Any) -> bytes:
    return canonical_json({**json.loads(DATA), **changes})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        DATA + b" ",
        DATA.replace(b"0.1", b"NaN"),
        DATA.replace(b"0.1", b"1e999"),
        b'{"schema":1,' + DATA[1:],
        b"[" * 100_000,
        changed(schema=2),
        changed(schema=1, more=1),
        changed(inputs=[]),
        changed(inputs=["a", 1]),
        changed(inputs=["a"] * 65, logits=[[0.5]] * 65),
        changed(inputs=["a"]),
        changed(max_length=0),
        changed(max_length=True),
        changed(logits=[[0.5], [0.5, 0.5]]),
        changed(logits=[[], []]),
        changed(logits=[[0.1, 0.5], [0.5, 0.5]]),
        changed(logits=[[1, 0.5], [0.5, 0.5]]),
        changed(logits=[[1e300, 0.5], [0.5, 0.5]]),
        changed(environment={}),
        changed(environment={**json.loads(DATA)["environment"], "threads": "1"}),
        json.dumps({**json.loads(DATA), "inputs": ["\ud800", "b"]}).encode(),
        changed(inputs=["a" * 1_000_000, "b"]),
    ],
)
def test_what_is_no_probe_is_refused(data: bytes) -> None:
    assert data != DATA
    with pytest.raises(IntegrityError):
        reference_outputs.parse(data)


@pytest.mark.parametrize("row", [(float("nan"),), (float("inf"),), (0.1,), ()])
def test_logits_that_are_not_finite_float32_are_never_written(row: tuple[float, ...]) -> None:
    with pytest.raises(IntegrityError):
        reference_outputs.write(("a",), (row,), 16, environment=ENVIRONMENT)
