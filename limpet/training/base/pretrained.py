"""A base's files as transformers may see them: those of the fingerprint, no code, adapter or other file beside them.

transformers looks for more in a model's folder than its caller asks for: it adds an adapter that lies there, follows
its configuration to another model, and offers to run Python files. So it is never shown the folder itself.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.registry.base_fingerprint import fingerprinted_files
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.formats.safetensors_header import check_header
from limpet.training.base.holding.stored import OF_BITSANDBYTES, WRITTEN_OUT, own_dtype, stored_in

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

__all__ = [
    "Pretrained",
    "count_parameters",
    "depth",
    "load_config",
    "load_held",
    "load_pretrained",
    "load_tokenizer",
    "only_these",
    "shortened",
    "stored_dtype",
]

_DECODER_LAYERS = ("num_decoder_layers", "decoder_layers")
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


def depth(config: PretrainedConfig) -> int:
    """Return how many layers a model of this configuration has, those of its decoder among them."""
    return int(config.num_hidden_layers) + (_decoder_layers(config) if config.is_encoder_decoder else 0)


def shortened(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """Return the configuration of a base's first `layers` layers; of as many of its encoder and its decoder each.

    Args:
        config: The base's configuration.
        layers: How many; a part that has fewer keeps those.
    """
    fields, whole = config.to_dict(), int(config.num_hidden_layers)
    names = {"num_hidden_layers", *(_DECODER_LAYERS if config.is_encoder_decoder else ())}
    for name in {config.attribute_map.get(name, name) for name in names} & fields.keys():
        fields[name] = min(layers, int(fields[name]))
    for name, value in fields.items():
        # what kind of layer each of them is
        if isinstance(value, list) and len(value) == whole and "layer" in name:
            fields[name] = value[:layers]
    return type(config).from_dict(fields)


def _decoder_layers(config: PretrainedConfig) -> int:
    return next((int(getattr(config, name)) for name in _DECODER_LAYERS if hasattr(config, name)), 0)


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
    from transformers import AutoModel

    auto = _auto_class(load_config(folder), family)
    options |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
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


def load_held(
    folder: Path, family: str, *, recipe: JsonObject, first_layers: int | None = None, **options: object
) -> tuple[Pretrained, str]:
    """Load a base as it is to be held; return it with the dtype of the weights that are not in few bits.

    Args:
        folder: The base's files.
        family: `encoder`, `decoder` or `encoder-decoder`.
        recipe: See `limpet.training.base.holding.recipes`; empty where it is held as its files are.
        first_layers: Load so many of its layers alone.
        **options: Passed on to `from_pretrained`.
    """
    # torch comes with them, and the doctor does without
    import torch

    from limpet.training.base.holding.quantised import hold_quantised, quantization_config, take_marks_off
    from limpet.training.base.holding.short_weights import hold_as_stored

    config, quantize = load_config(folder), recipe.get("quantize")
    stored = stored_in(config)
    if first_layers is not None:
        config = shortened(config, first_layers)
        options = {**options, "config": config}
    if quantize is not None:
        # what is not quantised, such as norms and embeddings, is held as is usual beside few bits
        dtype, options = "bfloat16", {**options, "quantization_config": quantization_config(str(quantize))}
    elif stored is not None:
        dtype = own_dtype(config)
        if stored in WRITTEN_OUT:
            config.quantization_config = {**config.quantization_config, "dequantize": True}
            options = {**options, "config": config}
    else:
        dtype = str(recipe.get("dtype", stored_dtype(folder)))
    loaded = load_pretrained(folder, family, dtype=getattr(torch, dtype), **options)
    if quantize is not None or stored in OF_BITSANDBYTES:
        hold_quantised(loaded.model)
    if quantize is not None or stored is not None:
        take_marks_off(loaded.model)
    return loaded, dtype if hold_as_stored(loaded.model.eval()) else "float32"


def count_parameters(config: PretrainedConfig, family: str) -> int:
    """Return how many numbers a model of a configuration learns, however its files store them.

    Args:
        config: The configuration; what it says of quantised weights is left out of it.
        family: `encoder`, `decoder` or `encoder-decoder`.
    """
    import torch

    plain = copy.deepcopy(config)
    del plain.quantization_config
    with torch.device("meta"):
        model = _auto_class(plain, family).from_config(plain, trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


def _auto_class(config: PretrainedConfig, family: str) -> type[_BaseAutoModelClass]:
    """Return the class that loads models of a kind, with their language-model head where they have one."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    headed: dict[str, type[_BaseAutoModelClass]] = {
        "decoder": AutoModelForCausalLM,
        "encoder-decoder": AutoModelForSeq2SeqLM,
    }
    auto = headed.get(family)
    return auto if auto is not None and type(config) in auto._model_mapping else AutoModel


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
