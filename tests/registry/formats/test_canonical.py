from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.canonical import canonical_json, check_digest, digest_bytes, digest_file, digest_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("aé\n\0"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
)


@given(JSON)
def test_canonical_json_reads_back_equal_and_is_stable(value: object) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


def test_order_of_keys_does_not_change_the_bytes() -> None:
    assert canonical_json({"b": 1, "a": [1, "é"]}) == '{"a":[1,"é"],"b":1}'.encode()
    assert digest_json({"b": 1, "a": 2}) == digest_json({"a": 2, "b": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}, "\ud800", {1: 2, "a": 3}])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(UsageError):
        canonical_json(value)


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    data = b"limpet" * 500_000
    (tmp_path / "file").write_bytes(data)
    assert digest_file(tmp_path / "file") == digest_bytes(data)
    assert digest_bytes(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 64]
)
def test_what_is_no_digest_never_becomes_a_path(digest: str) -> None:
    with pytest.raises(IntegrityError):
        check_digest(digest)
