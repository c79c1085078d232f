"""A `.gguf` file as a transformers folder: dequantised once, then an ordinary frozen base in safetensors."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from limpet.errors import IntegrityError, UnavailableError
from limpet.training.base.pretrained import only_these

__all__ = ["convert_gguf"]


def convert_gguf(path: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a `.gguf` file into `folder`, as float32 safetensors.

    Float32 holds every dequantised weight exactly, so that nothing is rounded a second time.

    Args:
        path: The file to read.
        folder: An existing, empty folder.

    Raises:
        UnavailableError: The package `gguf` isn't installed.
        IntegrityError: The file isn't a GGUF file that transformers can read.
    """
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"{path.name} is a GGUF file, and the package gguf that reads it is not installed.",
            "pip install 'limpet[gguf]'",
        ) from error
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise IntegrityError(
                f"{path} is not a GGUF file: it doesn't begin with the letters GGUF.", f"file {path}"
            )
    # newer versions of transformers keep the weights packed, which can't be saved, unless told otherwise
    packed = getattr(transformers, "GgufConfig", None)
    options = {"quantization_config": packed(dequantize=True)} if packed else {}
    # the converter draws its progress bar on stderr, piped or not
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            # what lies beside the file is no part of it
            with only_these([path]) as seen:
                tokenizer = AutoTokenizer.from_pretrained(seen, gguf_file=path.name, trust_remote_code=False)
                model, info = AutoModelForCausalLM.from_pretrained(
                    seen,
                    gguf_file=path.name,
                    dtype=torch.float32,
                    trust_remote_code=False,
                    output_loading_info=True,
                    **options,
                )
        except Exception as error:  # the parser raises whatever a damaged file makes it stumble over
            raise IntegrityError(
                f"{path} could not be read as a GGUF model: {error}.",
                "convert it to a safetensors folder and name that folder as the base",
            ) from error
        if missing := sorted(map(str, info["missing_keys"])):
            raise IntegrityError(
                f"{path} lacks {len(missing)} weights of the model that it describes ({', '.join(missing[:3])}).",
                "download or convert the file again",
            )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
