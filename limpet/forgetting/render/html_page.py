"""HTML files that need nothing beside them: no script, no font, no link to anywhere."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Plot", "data_uri", "page", "save_figure"]


@dataclass(frozen=True)
class Plot:
    """A figure as a data URI, and what it shows in words."""

    source: str
    words: str


def page(template: str, **values: object) -> str:
    """Return one self-contained HTML document; all text of users is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def data_uri(figure: Figure) -> str:
    """Return a figure as an SVG in a data URI."""
    return f"data:image/svg+xml;base64,{base64.b64encode(save_figure(figure, 'svg')).decode('ascii')}"


def save_figure(figure: Figure, form: str) -> bytes:
    """Return a figure as the bytes of an `svg` or `png` file; the same figure is the same bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # without date and random ids
    metadata = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    with rc_context({"svg.hashsalt": "limpet"}):
        figure.savefig(buffer, format=form, metadata=metadata, dpi=150)
    return buffer.getvalue()
