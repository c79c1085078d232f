"""Run as a process of its own: load every adapter of a folder anew, and say which answers differ.

FOLDER/<architecture>/base is a model, FOLDER/<architecture>/<method> an adapter's files with its answer beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.model.method_compatibility import load_again
from tests.training.methods.table import load_tiny


def main(folder: Path) -> None:
    """Print as JSON how many were loaded, and the cells whose logits are not bit for bit those of before."""
    transformers.logging.set_verbosity_error()
    loaded, different = 0, []
    for architecture in sorted(folder.iterdir()):
        model = load_tiny(architecture / "base")
        before = module_digest(model)
        for answer in sorted(architecture.glob("*.answer")):
            name = answer.stem.replace("=", ":")
            files = {path.name: path for path in answer.with_suffix("").iterdir()}
            logits = load_again(model, methods.get(name), files)
            loaded += 1
            if not torch.equal(logits, load_file(answer)["logits"]):
                different.append(f"{name} on {architecture.name}")
        if module_digest(model) != before:
            different.append(f"the base {architecture.name} itself")
    print(json.dumps({"loaded": loaded, "different": different}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
