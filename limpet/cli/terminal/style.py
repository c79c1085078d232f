"""Colours and weights of text on the terminal."""

from __future__ import annotations

import os
from typing import Any

import click

__all__ = ["paint"]


def paint(text: str, **style: Any) -> str:
    """Style a text for the terminal, unless NO_COLOR is set; click strips it where it writes to no terminal."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)
