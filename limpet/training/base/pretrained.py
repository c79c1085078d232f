"""A base's files as transformers may see them: those of the fingerprint, no code, adapter or other file beside them.

transformers looks for more in a model's folder than its caller asks for: it adds an adapter that lies there, follows
its configuration to another model, and offers to run Python files. So it is never shown the folder itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.registry.base_fingerprint import fingerprinted_files
from limpet.registry.formats.safetensors_header import check_header

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Pretrained", "load_config", "load_pretrained", "load_tokenizer", "only_these", "stored_dtype"]

_SHORT = {"BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Pretrained:
    """A transformers model as it was loaded, `headed` if it is one with a language-model head.

    `missing` are the names of its tensors that the files do not have, `unexpected` the names in the files that it has
    no use for, `reshaped` has the names that are of another shape in the files, with that shape and its own.
    """

    model: PreTrainedModel
    headed: bool
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]


@contextmanager
def only_these(files: list[Path]) -> Iterator[Path]:
    """Give a folder of links to `files` and to nothing else, for the length of a `with` block."""
    with tempfile.TemporaryDirectory(prefix="limpet-base-") as name:
        folder = Path(name)
        for file in files:
            (folder / file.name).symlink_to(file.absolute())
        yield folder


def load_config(folder: Path) -> PretrainedConfig:
    """Return a base's configuration, as transformers reads it.

    Args:
        folder: The base's files.
    """
    from transformers import AutoConfig

    with only_these(fingerprinted_files(folder)) as seen:
        return AutoConfig.from_pretrained(seen, local_files_only=True, trust_remote_code=False)


def stored_dtype(folder: Path) -> str:
    """Return the dtype that holds every weight of a base's files exactly, in the fewest bits.

    Args:
        folder: The base's files.

    Returns:
        `bfloat16` or `float16` where all numbers are stored in it, else `float32`.
    """
    files = [path for path in fingerprinted_files(folder) if path.suffix == ".safetensors"]
    kinds = {dtype for path in files for dtype, _ in check_header(path).values() if dtype.startswith(("F", "BF"))}
    return _SHORT.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a base's tokenizer.

    Args:
        folder: The base's files.
    """
    from transformers import AutoTokenizer

    with only_these(fingerprinted_files(folder)) as seen:
        tokenizer = AutoTokenizer.from_pretrained(seen, local_files_only=True, trust_remote_code=False)
    tokenizer.name_or_path = str(folder)
    return tokenizer


def load_pretrained(folder: Path, family: str, **options: object) -> Pretrained:
    """Load a base with its language-model head, where models of its kind have one.

    Args:
        folder: The base's files.
        family: `encoder`, `decoder` or `encoder-decoder`.
        **options: Passed on to `from_pretrained`. With `device_map="meta"`, shapes and names alone are loaded.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto = {"decoder": AutoModelForCausalLM, "encoder-decoder": AutoModelForSeq2SeqLM}.get(family, AutoModel)
    options |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    if auto is not AutoModel and type(load_config(folder)) not in auto._model_mapping:
        auto = AutoModel
    with only_these(fingerprinted_files(folder)) as seen, _no_bar():
        model, info = auto.from_pretrained(seen, trust_remote_code=False, **options)
    # where it came from, not the folder of links
    model.name_or_path = model.config._name_or_path = str(folder)
    return Pretrained(
        model,
        auto is not AutoModel,
        tuple(sorted(map(str, info["missing_keys"]))),
        tuple(sorted(map(str, info["unexpected_keys"]))),
        tuple(sorted((name, tuple(found), tuple(due)) for name, found, due in info["mismatched_keys"])),
    )


@contextmanager
def _no_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar of its own while weights are read, which takes a second."""
    from transformers.utils import logging

    draws = logging.is_progress_bar_enabled()
    if draws:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if draws:
            logging.enable_progress_bar()
