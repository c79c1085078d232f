"""A folder that peft has saved, held against the installed peft and the base: everything wrong with it, in one error.

What is expected is asked of peft itself: it builds the adapter on a twin of the base that has shapes but no numbers.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from limpet.errors import IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.first_few import first_few
from limpet.registry.formats import peft_config
from limpet.registry.formats.adapter_files import MODEL_FILE, PEFT_FILES
from limpet.registry.formats.canonical import CHUNK
from limpet.registry.formats.peft_allowed_fields import FIELDS
from limpet.registry.formats.peft_config import Problem
from limpet.registry.formats.safetensors_header import check_header
from limpet.registry.formats.strict_json import read_json
from limpet.training.adoption.peft_names import in_names_of_the_base
from limpet.training.adoption.peft_wrapper import PREFIX, Unwrapped, unwrap
from limpet.training.base.backbone import Backbone
from limpet.training.methods._peft_fields import field_problems, is_of_type, shown_value, take_over

__all__ = ["Fitting", "PeftFolder", "check", "copy_files", "read"]

_LARGEST_JSON = 16 << 20
_CHECKPOINT = re.compile(r"checkpoint-[0-9]{1,12}")
_FLOATS = {"F16", "BF16", "F32", "F64"}
_TRAIN = "train it on this base (limpet base show), and save it with save_pretrained"
_WORDS = (
    "train it without embed_tokens and lm_head among modules_to_save and without new words; embed_tokens among "
    "target_modules, or trainable_token_indices, changes the words that there are"
)
# without one of these, peft can't be asked which tensors there should be
_SHAPING = {
    "peft_type",
    "r",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_dora",
    "lora_bias",
    "bias",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
}


@dataclass(frozen=True)
class PeftFolder:
    """The configuration and tensors of a peft folder, as they were saved; `dtypes` are safetensors' names."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    dtypes: dict[str, str]


def copy_files(folder: Path, names: Sequence[str], target: Path) -> None:
    """Copy those files that are there, so that what is checked is what is used.

    Raises:
        NotFoundError: There is no such folder.
        UsageError: A file is a link: its bytes would come from outside the folder.
        LimpetError: A file can't be read.
    """
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {str(folder)!r}.", "limpet adapter register TASK FOLDER")
    for name in names:
        source = folder / name
        if source.is_symlink():
            raise UsageError(
                f"{source} is a link, and only the folder's own files are registered.",
                f"copy what the links point at: cp -rL {folder} COPY",
            )
        try:
            # neither a pipe nor a link that came in between is waited for or followed
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise LimpetError(f"{source} can't be read: {error.strerror}.", f"ls -l {source}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            continue
        with os.fdopen(descriptor, "rb") as file:
            _copy(file, target / name)


def _copy(source: IO[bytes], target: Path) -> None:
    with target.open("xb") as copy:
        while chunk := source.read(CHUNK):
            copy.write(chunk)


def _lacks(folder: Path, name: str) -> NotFoundError:
    held = sorted(path.name for path in folder.iterdir())
    said = f"{folder} is not a peft adapter: it has no {name} (it holds {', '.join(held[:8]) or 'nothing'})."
    pickled = next((one for one in held if one.endswith((".bin", ".pt")) and one != "training_args.bin"), None)
    inner = sorted(path.parent.name for path in folder.glob(f"*/{PEFT_FILES[0]}"))
    if name == PEFT_FILES[0] and inner:
        return _lies_inside(folder, inner)
    if name == PEFT_FILES[0] and any(one.startswith("model") and one.endswith(".safetensors") for one in held):
        return NotFoundError(
            f"{folder} is not a peft adapter but a whole model: it has {MODEL_FILE} and no {name}.",
            f"make an adapter of what differs: limpet adapter register TASK --from-model {folder} --rank 0.95",
        )
    if name == PEFT_FILES[1] and pickled:
        # without code: `weights_only` refuses whatever is no tensor
        return NotFoundError(
            f"{said} {pickled} is a pickle, a format that can run code when opened; limpet opens safetensors only.",
            f'convert it, in {folder}: python -c "import torch, safetensors.torch as s; '
            f"t = torch.load('{pickled}', map_location='cpu', weights_only=True); "
            f"s.save_file({{k: v.clone().contiguous() for k, v in t.items()}}, '{name}')\"",
        )
    return NotFoundError(said, f"save it with model.save_pretrained({str(folder)!r})")


def _lies_inside(folder: Path, inner: Sequence[str]) -> NotFoundError:
    """Return the error of a trainer's output folder: its adapters lie in folders of their own."""
    steps = sorted((int(name.split("-")[1]), name) for name in inner if _CHECKPOINT.fullmatch(name))
    newest = steps[-1][1] if steps else inner[-1]
    chosen, why = newest, "the newest" if steps else "one of them"
    best = _best_checkpoint(folder / newest / "trainer_state.json")
    if best in inner:
        chosen, why = best, "the one that its trainer found best"
    return NotFoundError(
        f"{folder} is not a peft adapter itself: {'they lie' if len(inner) > 1 else 'it lies'} in "
        f"{first_few(inner, 8)}.",
        f"limpet adapter register TASK {folder / chosen}" + (f", {why}" if len(inner) > 1 else ""),
    )


def _best_checkpoint(state: Path) -> str:
    """Return the name of the folder that a trainer's state calls its best; empty where it says nothing."""
    if not state.is_file():
        return ""
    try:
        content = read_json(state.read_bytes(), str(state))
    except (OSError, IntegrityError):
        return ""
    best = content.get("best_model_checkpoint") if isinstance(content, dict) else None
    return Path(best).name if isinstance(best, str) else ""


def read(folder: Path, copies: Path) -> PeftFolder:
    """Read the copies of a peft folder's two files.

    Args:
        folder: Where they came from, for messages.
        copies: Where they are.

    Raises:
        NotFoundError: One is missing.
        IntegrityError: One is corrupt.
    """
    for name in PEFT_FILES:
        if not (copies / name).is_file():
            raise _lacks(folder, name)
    header = check_header(copies / PEFT_FILES[1], str(folder / PEFT_FILES[1]))
    path = copies / PEFT_FILES[0]
    if path.stat().st_size > _LARGEST_JSON:
        raise IntegrityError(f"{folder / PEFT_FILES[0]} is larger than {_LARGEST_JSON} bytes.", "save it again")
    config = read_json(path.read_bytes(), str(folder / PEFT_FILES[0]))
    if not isinstance(config, dict):
        raise IntegrityError(f"{folder / PEFT_FILES[0]} is not a JSON object.", "save the adapter again")
    dtypes = {name: dtype for name, (dtype, _) in header.items()}
    return PeftFolder(config, load_file(copies / PEFT_FILES[1]), dtypes)


@dataclass(frozen=True)
class Fitting:
    """A peft folder that fits the base: what a version keeps of it.

    Attributes:
        config: Its configuration, in the names that the base alone has for its modules.
        parts: Its tensors, told apart.
        ignored: Fields of its configuration that say nothing about the trained adapter.
    """

    config: dict[str, Any]
    parts: Unwrapped
    ignored: tuple[str, ...]


def check(folder: Path, made: PeftFolder, backbone: Backbone, *, find: Callable[[Unwrapped], list[str]]) -> Fitting:
    """Refuse an adapter that is not, field by field and tensor by tensor, one for this base.

    Args:
        folder: Where it came from, for the message.
        made: The folder as it was saved.
        backbone: The base.
        find: Says what is wrong with its head.

    Returns:
        What is kept of it.

    Raises:
        UsageError: Fields of the configuration are wrong; the message names each.
        IntegrityError: Tensors do not fit, and perhaps fields neither; the message names each.
    """
    taken = take_over(made.config)
    keeps_norms = "modules_to_save" in FIELDS.get(str(made.config["peft_type"]), ())
    parts = unwrap(made.tensors, backbone, keeps_norms=keeps_norms)
    said = {"peft_type": made.config["peft_type"], "task_type": "FEATURE_EXTRACTION"}
    fields = [*taken.problems, *field_problems(taken.kept | said)]
    bad = {name for name, _ in fields}
    config = {name: value for name, value in taken.kept.items() if name not in bad}
    wrong_tensors = [*_number_problems(made), *parts.problems, *find(parts)]
    if not bad & _SHAPING:
        names = [name for name, _ in backbone.model.named_modules() if name]
        config, unnamed = in_names_of_the_base(config, parts.prefix, names)
        fields += unnamed
        fields += [problem for problem in _value_problems(config) if problem[0] not in bad]
    named = {name for name, _ in fields}
    fields += [problem for problem in peft_config.problems(config | said) if problem[0] not in named]
    if parts.modules_to_save:
        config["modules_to_save"] = parts.modules_to_save
    if not {name for name, _ in fields} & _SHAPING:
        wrong_tensors += _shape_problems(config | said, parts.adapter, backbone)
    if fields or wrong_tensors:
        lines = [_line(*problem) for problem in fields]
        _refuse(folder, backbone, lines, tensors=wrong_tensors, hint=_WORDS if parts.trains_words else _TRAIN)
    return Fitting(config | said, parts, taken.ignored)


def _line(name: str, what: str) -> str:
    return f"{name if name.isidentifier() else repr(name)} {what}"


def _refuse(folder: Path, backbone: Backbone, fields: Sequence[str], *, tensors: Sequence[str], hint: str) -> None:
    kind = IntegrityError if tensors else UsageError
    lines = "".join(f"\n  {line}" for line in [*fields, *tensors])
    raise kind(
        f"The adapter in {folder} does not fit the base {backbone.record.name!r}:{lines}",
        hint,
    )


def _value_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the ranks and factors of single modules that are none."""
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern, value in sorted((config.get(field) or {}).items()):
            whole = field == "rank_pattern"
            if not is_of_type(value, int if whole else float) or not (1 if whole else 0) <= value < float("inf"):
                kind = "rank" if whole else "number"
                yield field, f"gives {pattern[:60]!r} {shown_value(value)}, which is no {kind}"


def _number_problems(made: PeftFolder) -> Iterator[str]:
    if other := sorted(f"{_short(name)} ({dtype})" for name, dtype in made.dtypes.items() if dtype not in _FLOATS):
        yield f"{_count(other)} not of floating-point numbers: {first_few(other)}"
    numbers = {name: tensor for name, tensor in made.tensors.items() if tensor.is_floating_point()}
    if lost := sorted(_short(name) for name, tensor in numbers.items() if not bool(torch.isfinite(tensor).all())):
        yield f"{_count(lost)} not finite (NaN or infinity): {first_few(lost)}"


def _shape_problems(config: Mapping[str, Any], adapter: Mapping[str, Tensor], backbone: Backbone) -> Iterator[str]:
    try:
        expected = _expected_shapes(config, backbone)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if "meta" in str(error):
            # it looks at the base's numbers to build its own; loading it will compare every tensor
            return
        yield f"peft can't build it on this base: {' '.join(str(error).split())}"
        return
    given = {name: tuple(tensor.shape) for name, tensor in adapter.items()}
    if missing := sorted(map(_short, expected.keys() - given.keys())):
        yield f"{_count(missing)} missing: {first_few(missing)}"
    if unexpected := sorted(map(_short, given.keys() - expected.keys())):
        yield f"{_count(unexpected)} unexpected: {first_few(unexpected)}"
    differing = sorted(name for name in expected.keys() & given.keys() if expected[name] != given[name])
    ranks = {name: ranks for name in differing if (ranks := _ranks(name, given[name], expected[name]))}
    if ranks:
        shown = (f"{_short(name)} has {found}, not {wanted}" for name, (found, wanted) in ranks.items())
        yield f"{_count(ranks)} of another rank than the configuration says: {first_few(shown, joint='; ')}"
    if reshaped := [name for name in differing if name not in ranks]:
        shown = (f"{_short(name)} is {given[name]}, not {expected[name]}" for name in reshaped)
        yield f"{_count(reshaped)} of another shape than this base needs: {first_few(shown, joint='; ')}"


def _expected_shapes(config: Mapping[str, Any], backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Return the tensors that peft would save for this configuration on this base, with their shapes."""
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
    from transformers import AutoModel

    # a prompt's network is not saved, and peft leaves it out where it builds for inference
    settings = {**config, "inference_mode": True}
    if "init_lora_weights" in settings:
        settings["init_lora_weights"] = False
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        twin = AutoModel.from_config(backbone.model.config, trust_remote_code=False)
        module = get_peft_model(twin, PeftConfig.from_peft_type(**settings))
    state = get_peft_model_state_dict(module, save_embedding_layers=False)
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _ranks(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the ranks of two shapes of a LoRA matrix that differ in nothing else."""
    axis = 0 if ".lora_A." in name else 1
    if ".lora_" not in name or len(found) != 2 or len(wanted) != 2 or found[1 - axis] != wanted[1 - axis]:
        return None
    return found[axis], wanted[axis]


def _short(name: str) -> str:
    return name.removeprefix(PREFIX)[:200]


def _count(items: Sequence[Any] | Mapping[Any, Any]) -> str:
    return f"{len(items)} tensor{'s are' if len(items) > 1 else ' is'}"
