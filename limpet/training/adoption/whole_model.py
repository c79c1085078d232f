"""A whole fine-tuned copy of the base, read tensor by tensor and held against the base in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.first_few import first_few
from limpet.registry.formats.adapter_files import MODEL_FILE, PEFT_FILES
from limpet.registry.formats.strict_json import read_json
from limpet.training.base.backbone import Backbone

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LM_HEAD", "WholeModel", "open_whole_model"]

LM_HEAD = "lm_head.weight"
_INDEX_FILE = f"{MODEL_FILE}.index.json"
# heads that a model was pretrained with, which no task here reads
_PRETRAINING_HEADS = ("cls.", "lm_head.", "generator_lm_head.", "discriminator_predictions.", "vocab_")


@dataclass(frozen=True)
class WholeModel:
    """The tensors of a model's files, by the base's own names for them.

    Attributes:
        folder: Where they are.
        files: The file of each tensor, by the name in it.
        inner: The base's own name of each tensor of the backbone, to the name in the files.
        outside: Tensors of a head, by the name in the files.
        words: The name in the files of the language-model head's matrix; null where it has none of its own.
    """

    folder: Path
    files: Mapping[str, Path]
    inner: Mapping[str, str]
    outside: tuple[str, ...]
    words: str | None

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield tensors by their names in the files, one in memory at a time.

        Raises:
            IntegrityError: A file is corrupt.
        """
        with ExitStack() as stack:
            opened: dict[Path, Any] = {}
            for name in names:
                path = self.files[name]
                try:
                    if path not in opened:
                        opened[path] = stack.enter_context(safe_open(path, framework="pt"))
                    tensor = opened[path].get_tensor(name)
                except (SafetensorError, OSError) as error:
                    raise IntegrityError(f"{path} can't be read: {error}", "copy the model again") from error
                if not bool(torch.isfinite(tensor).all()):
                    raise IntegrityError(
                        f"{name} of {path} is not finite (NaN or infinity).", "train the model again"
                    )
                yield name, tensor


def open_whole_model(folder: Path, backbone: Backbone) -> WholeModel:
    """Find out what the tensors of a model's folder are to the base; none is read yet.

    Raises:
        NotFoundError: The folder is none of a whole model.
        IntegrityError: It is no copy of this base: tensors are missing, or have another shape.
    """
    files = _files(folder)
    shapes = {name: _shape(path, name) for name, path in files.items()}
    own = {name: tuple(parameter.shape) for name, parameter in backbone.model.named_parameters()}
    prefix = f"{backbone.model.base_model_prefix}."
    inner: dict[str, str] = {}
    for name in files:
        bare = name if name in own else name.removeprefix(prefix)
        if bare in own:
            inner[bare] = name
    buffers = {name for name, _ in backbone.model.named_buffers()}
    rest = [name for name in files if name not in inner.values() and name.removeprefix(prefix) not in buffers]
    words = next((name for name in rest if name == LM_HEAD), None)
    outside = tuple(sorted(name for name in rest if not name.startswith(_PRETRAINING_HEADS)))
    _check_same_model(folder, backbone, own, found={bare: shapes[name] for bare, name in inner.items()})
    return WholeModel(folder, files, inner, outside, words)


def _check_same_model(
    folder: Path,
    backbone: Backbone,
    own: Mapping[str, tuple[int, ...]],
    *,
    found: Mapping[str, tuple[int, ...]],
) -> None:
    # classifiers of tokens are saved without the pooler that they do not read
    lacking = sorted(name for name in own.keys() - found.keys() if not name.startswith("pooler."))
    reshaped = [f"{name} is {found[name]}, not {own[name]}" for name in sorted(found) if found[name] != own[name]]
    lines = [f"{len(lacking)} tensors are missing: {first_few(lacking)}"] if lacking else []
    if reshaped:
        lines.append(f"{len(reshaped)} of another shape than this base's: {first_few(reshaped, joint='; ')}")
    embeddings = next((name for name in reshaped if "embed" in name), None)
    if lines:
        raise IntegrityError(
            f"The model in {folder} is no fine-tuned copy of the base {backbone.record.name!r}:"
            + "".join(f"\n  {line}" for line in lines),
            "words that were added to its vocabulary have no place in the base: train without them"
            if embeddings
            else "limpet base show says what the base is",
        )


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise NotFoundError(
            f"There is no folder {str(folder)!r}.", "limpet adapter register TASK --from-model FOLDER"
        )
    single, index = folder / MODEL_FILE, folder / _INDEX_FILE
    if single.is_file():
        return dict.fromkeys(_names(single), single)
    if index.is_file():
        content = read_json(index.read_bytes(), str(index))
        table = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(table, dict) or not all(_is_beside(file) for file in table.values()):
            raise IntegrityError(f"{index} does not say which file has which tensor.", "copy the model again")
        return {name: folder / str(file) for name, file in table.items()}
    held = sorted(path.name for path in folder.iterdir())
    said = f"{folder} is not a whole model: it has no {MODEL_FILE} (it holds {first_few(held, 8) or 'nothing'})."
    if PEFT_FILES[0] in held:
        raise UsageError(f"{said} It is an adapter.", f"limpet adapter register TASK {folder}")
    raise NotFoundError(said, "save it with model.save_pretrained(FOLDER, safe_serialization=True)")


def _is_beside(file: object) -> bool:
    return isinstance(file, str) and file == Path(file).name and file.endswith(".safetensors")


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path} can't be read: {error}", "copy the model again") from error


def _shape(path: Path, name: str) -> tuple[int, ...]:
    try:
        with safe_open(path, framework="pt") as opened:
            return tuple(opened.get_slice(name).get_shape())
    except (SafetensorError, OSError) as error:
        raise IntegrityError(f"{path} has no readable {name}: {error}", "copy the model again") from error
