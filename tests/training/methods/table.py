"""What works where, found by trying every method on a tiny model of every architecture.

`python -m tests.training.methods.table` writes the table that limpet ships.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from limpet.training import methods
from tests.tiny import KINDS, tiny_base

__all__ = ["as_text", "load_tiny"]


def load_tiny(folder: Path) -> Any:
    """Load a model as limpet does on a processor."""
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    return model.eval().requires_grad_(False)


def as_text(table: Mapping[str, Mapping[str, str]]) -> str:
    """The table as the file has it."""
    return json.dumps(table, indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Try everything and write the table."""
    from limpet.training.model.method_compatibility import try_all

    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        found = {kind: try_all(load_tiny(tiny_base(Path(folder) / kind, kind))) for kind in KINDS}
    methods.TABLE.write_text(as_text(found), encoding="utf-8")


if __name__ == "__main__":
    main()
