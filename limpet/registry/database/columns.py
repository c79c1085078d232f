"""What all tables of a home share: the types of their columns and the names of their constraints."""

from __future__ import annotations

import json

from sqlalchemy import Dialect, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from limpet.registry.formats.canonical import canonical_json
from limpet.registry.formats.json_values import JsonValue

__all__ = ["DIGEST", "NAME", "TIME", "CanonicalJson", "TableBase"]

DIGEST = String(71)
NAME = String(64)
TIME = String(27)


class CanonicalJson(TypeDecorator[JsonValue]):
    """A JSON value kept as canonical text, so that equal values are equal bytes on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JsonValue, dialect: Dialect) -> str:
        """Return the text to store."""
        return canonical_json(value).decode("utf-8")

    def process_result_value(self, value: str | None, dialect: Dialect) -> JsonValue:
        """Return the value that the stored text stands for."""
        content: JsonValue = json.loads(value or "null")
        return content


class TableBase(DeclarativeBase):
    """What all tables share: names for constraints that do not depend on the database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
