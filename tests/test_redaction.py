"""No URL shows a secret, and nothing else is touched."""

from __future__ import annotations

import pytest

from limpet.redaction import has_secret, hide_secrets

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ana:hunter2@db/limpet", "postgresql://ana:***@db/limpet"),
        ("postgresql+psycopg://ana:hunter2@db:5432/x", "postgresql+psycopg://ana:***@db:5432/x"),
        ("postgresql://db/limpet?user=ana&password=hunter2", "postgresql://db/limpet?user=ana&password=***"),
        (
            "postgresql://db/x?sslpassword=hunter2&sslmode=require",
            "postgresql://db/x?sslpassword=***&sslmode=require",
        ),
        ("http://ana:hunter2@host:5000/mlflow", "http://ana:***@host:5000/mlflow"),
        ("https://hunter2@host/x", "https://***@host/x"),
        ("ftp://ana:p@hunter2@host/x", "ftp://ana:***@host/x"),
        ("s3://AKIA:hunter2@bucket/x", "s3://AKIA:***@bucket/x"),
        ("s3://bucket/x?secret=hunter2&key=hunter2", "s3://bucket/x?secret=***&key=***"),
        ("https://a/b?X-Amz-Signature=hunter2&X-Amz-Date=1", "https://a/b?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://a/b?sv=1&sig=hunter2", "https://a/b?sv=1&sig=***"),
        ("https://a/b?access_token=hunter2", "https://a/b?access_token=***"),
        ("abfs://c@acc/x?account_key=hunter2", "abfs://c@acc/x?account_key=***"),
        ("The server http://ana:hunter2@host failed: 'http://ana:hunter2@host/x'.", None),
        ("simplecache::ftp://ana:hunter2@host/x", "simplecache::ftp://ana:***@host/x"),
    ],
)
def test_a_secret_is_hidden_and_the_rest_stays(text: str, shown: str | None) -> None:
    hidden = hide_secrets(text)
    assert SECRET not in hidden
    assert shown is None or hidden == shown
    assert has_secret(text) and not has_secret(hidden)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "postgresql://ana@db/limpet",
        "sqlite:////folder/limpet.db",
        "s3://bucket/adapters",
        "http://127.0.0.1:5000",
        "https://a/b?page=2&author=ana@b.c",
        "news@3 is news@production; write to ana@example.org",
        "set lr=0.1, key=value and token=... as you like",
        "a: b@c",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hide_secrets(text) == text
