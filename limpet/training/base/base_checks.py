"""What a base must be before anything is learned on it: all weights in its files, all of them numbers, words for all.

transformers draws at random whatever the files lack, and says so in a warning at most. What is asked here is asked of
transformers itself, on a model that has names and shapes but no numbers, so it takes no memory and next to no time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from limpet.errors import IntegrityError, UsageError
from limpet.first_few import first_few
from limpet.registry.base_fingerprint import WEIGHTS_FILE, Fingerprint, fingerprinted_files
from limpet.registry.formats.safetensors_header import check_header
from limpet.training.base.holding.stored import INSTEAD
from limpet.training.base.pretrained import Pretrained, load_held, load_pretrained, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["absent_pooler", "check_base", "check_nothing_missing"]

_SHOWN = 3
# how torch and its companions name a model's tensors while it is wrapped, and how its user unwraps it
_WRAPPERS = {
    "module": "model.module.save_pretrained(NEW)",
    "_orig_mod": "model._orig_mod.save_pretrained(NEW)",
    "_fsdp_wrapped_module": "accelerator.unwrap_model(model).save_pretrained(NEW)",
    "_checkpoint_wrapped_module": "accelerator.unwrap_model(model).save_pretrained(NEW)",
    "_forward_module": "model._forward_module.save_pretrained(NEW)",
}
_FLOATS = ("F64", "F32", "F16", "BF16")
_SAVE_ANEW = "save the whole model again: model.save_pretrained(NEW)"


def check_base(
    folder: Path, name: str, family: str, *, fingerprint: Fingerprint, stored: str | None = None
) -> tuple[str, ...]:
    """Refuse a base whose answers would not follow from its files.

    Weights that are stored quantised are read as they will be: their library has to make a model of them that answers
    and is the same afterwards.

    Args:
        folder: Its files.
        name: What it is called, for messages.
        family: `encoder`, `decoder` or `encoder-decoder`.
        fingerprint: What its files were found to hold.
        stored: What its weights are stored in, where quantised.

    Returns:
        The names of the tensors that its files lack and that only some tasks would read: those of its pooler and of
        its language-model head.

    Raises:
        UsageError: Weights are missing, of another shape than the configuration says or quantised in their files
            where it does not say so, or its tokenizer does not fit it.
        IntegrityError: A weight is NaN or infinite.
    """
    _check_dtypes(folder, name, stored)
    if stored is None:
        loaded = _without_numbers(folder, name, family)
    else:
        loaded = _as_stored(folder, name, family, stored=stored)
    check_nothing_missing(loaded, name)
    if loaded.reshaped:
        shown = first_few((f"{key} is {found}, not {due}" for key, found, due in loaded.reshaped), _SHOWN)
        raise UsageError(
            f"{len(loaded.reshaped)} weights of {name} are of another shape than its config.json says: {shown}.",
            f"restore the config.json that belongs to the weights, or {_SAVE_ANEW}",
        )
    if wrong := [key for key in fingerprint.not_finite if key not in loaded.unexpected]:
        raise IntegrityError(
            f"Not all weights of {name} are finite numbers: {len(wrong)} hold NaN or infinity "
            f"({first_few(wrong, _SHOWN)}).",
            "download the model again, or take a checkpoint from before its training diverged",
        )
    _check_tokenizer(folder, name, loaded.model)
    return tuple(key for key in loaded.missing if key in _optional(loaded))


def check_nothing_missing(loaded: Pretrained, name: str) -> None:
    """Refuse a model some of whose tensors are not in its files; a pooler and a language-model head may be missing.

    Args:
        loaded: The model.
        name: What the base is called, for the message.

    Raises:
        UsageError: Others are missing; the message says how many and the first names.
    """
    if not set(loaded.missing) - _optional(loaded):
        return
    total = len(loaded.model.state_dict())
    where = "are not in its files, so they would be drawn at random"
    said = f"{len(loaded.missing)} of {total} weights of {name} {where}: {first_few(loaded.missing, _SHOWN)}."
    for wrapper, unwrapped in _WRAPPERS.items():
        if any(wrapper in key.split(".") for key in loaded.unexpected):
            raise UsageError(
                f"{said} The files name them under the wrapper {wrapper!r}, such as {loaded.unexpected[0]}.",
                f"save the model without its wrapper: {unwrapped}",
            )
    other = f" What the files hold instead: {first_few(loaded.unexpected, _SHOWN)}." if loaded.unexpected else ""
    raise UsageError(said + other, _SAVE_ANEW)


def absent_pooler(missing: Collection[str]) -> tuple[str, ...]:
    """Return the tensors of a pooler among the names of missing ones."""
    return tuple(key for key in missing if "pooler" in key.split("."))


def _optional(loaded: Pretrained) -> set[str]:
    """The missing tensors that a base can do without: nothing but some heads reads them."""
    # torch comes with it, and the doctor does without
    from limpet.training.base.lm_head import head_tensors

    head = head_tensors(loaded.model) | {"final_logits_bias"} if loaded.headed else set()
    return head | set(absent_pooler(loaded.missing))


def _without_numbers(folder: Path, name: str, family: str) -> Pretrained:
    try:
        return load_pretrained(folder, family, device_map="meta", ignore_mismatched_sizes=True)
    # whatever transformers stumbles over in a configuration that does not fit the files
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"transformers can't load {name}: {first}", _SAVE_ANEW) from error


def _as_stored(folder: Path, name: str, family: str, *, stored: str) -> Pretrained:
    # torch comes with them, and the doctor does without
    import torch

    from limpet.training.base.tensor_digests import module_digest

    try:
        loaded, _ = load_held(folder, family, recipe={})
        model = loaded.model
        before, ids = module_digest(model), torch.tensor([[1, 2, 3]], device=model.device)
        inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})
        with torch.inference_mode():
            answer = next(iter(model(**inputs).values()))
        if not bool(torch.isfinite(answer).all()):
            raise ArithmeticError("its answers are no numbers")
        if module_digest(model) != before:
            raise ArithmeticError("it is another model after its first answer")
    # whatever the library stumbles over: its weights, this machine, what else it would need
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"The weights of {name} are stored quantised ({stored}), and can't be used here: {first}", INSTEAD
        ) from error
    return loaded


def _check_dtypes(folder: Path, name: str, stored: str | None) -> None:
    """Refuse weights in whole or 8-bit numbers: without the scales that belong to them they are other numbers."""
    kinds: dict[str, str] = {}
    owners: Counter[str] = Counter()
    for path in fingerprinted_files(folder):
        if path.suffix == Path(WEIGHTS_FILE).suffix:
            for key, (dtype, shape) in check_header(path).items():
                owner, _, part = key.rpartition(".")
                owners[owner] += part != "bias"
                if "weight" in part and len(shape) > 1 and dtype not in _FLOATS:
                    kinds[key] = dtype
    if stored is None and kinds:
        raise UsageError(
            f"{len(kinds)} of the weights of {name} are stored quantised, in other types than float32, float16 or "
            f"bfloat16: {_first(kinds)}.",
            INSTEAD,
        )
    # scales stand beside a weight, or under its name
    alone = {key: dtype for key, dtype in kinds.items() if owners[key.rpartition(".")[0]] + owners[key] < 2}
    if alone:
        raise UsageError(
            f"{len(alone)} of the weights of {name} are stored quantised ({stored}) without the scales that belong "
            f"to them: {_first(alone)}.",
            f"download the model again, or {INSTEAD}",
        )


def _first(kinds: Mapping[str, str]) -> str:
    return first_few((f"{key} is {kinds[key]}" for key in sorted(kinds)), _SHOWN)


def _check_tokenizer(folder: Path, name: str, model: PreTrainedModel) -> None:
    try:
        tokenizer = load_tokenizer(folder)
        words = tokenizer.get_vocab()
    # tokenizers of every kind are built from these files, and each fails in a way of its own
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"transformers can't load the tokenizer of {name}: {first}",
            "AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)",
        ) from error
    rows = int(model.get_input_embeddings().weight.shape[0])
    if beyond := sorted((number, word) for word, number in words.items() if number >= rows):
        raise UsageError(
            f"The tokenizer of {name} has words that the model has no embedding for: {len(beyond)}, the first "
            f"{beyond[0][1]!r} with id {beyond[0][0]}; the model has {rows}.",
            "save the tokenizer that the model was trained with, or the model after resize_token_embeddings",
        )
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise UsageError(
            f"The tokenizer of {name} has no pad token and no end token, so texts can't be put into one batch.",
            "tokenizer.pad_token = WORD, one of its words; then tokenizer.save_pretrained(FOLDER)",
        )
