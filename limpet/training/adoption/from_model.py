"""A LoRA of a whole fine-tuned copy of the base: what of the copy it holds, what not, and which answers that costs.

Linear layers and word embeddings become low-rank updates, the biases of linear layers biases of these; norms and a
head of transformers' are kept as they are. peft's LoRA has no place for biases beside updates of embeddings: where
both changed, an embedding keeps the rows that changed most. A language-model head of its own is left out, counted and
recorded. The copy is read tensor by tensor; it is in memory as a whole only while its answers are compared with those
of the adapter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limpet.errors import UsageError
from limpet.registry.formats.adapter_files import PEFT_FILES
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord
from limpet.training import methods
from limpet.training.adoption.low_rank_change import (
    Change,
    Factors,
    factorise,
    largest_rows,
    refuse_large,
    refuse_left_out,
)
from limpet.training.adoption.peft_wrapper import PREFIX, is_same
from limpet.training.adoption.whole_model import LM_HEAD, WholeModel, open_whole_model
from limpet.training.base.backbone import Backbone
from limpet.training.base.lm_head import LanguageHead
from limpet.training.base.shared_copy import shared_copy
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation.predict_split import AttachedModel, predict_split
from limpet.training.methods._saved_norms import is_norm, no_norms, wrapped_by
from limpet.training.model.task_model import TaskModel, active, bound_head
from limpet.training.progress import Progress

if TYPE_CHECKING:
    from limpet.registry.formats.json_values import JsonObject

__all__ = ["MadeOfModel", "compare", "make_adapter", "told_comparison"]


@dataclass
class MadeOfModel:
    """An adapter that was made of a whole model.

    Attributes:
        model: The model's files.
        change: What it changed, and how much of that is kept.
        layers: The factors of each linear layer, by the base's name of it.
        embeddings: Those of each embedding.
        rows: The rows of each embedding that are kept instead, by their indices.
        biases: The change of each linear layer's bias.
        norms: What each tensor of a norm has become.
        modules_to_save: The norms that are kept, as peft's configuration names them.
        transposed: Whether linear layers keep their weights as (in, out), as GPT-2's.
    """

    model: WholeModel
    change: Change = field(default_factory=Change)
    layers: dict[str, Factors] = field(default_factory=dict)
    embeddings: dict[str, Factors] = field(default_factory=dict)
    rows: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    norms: dict[str, Tensor] = field(default_factory=dict)
    modules_to_save: list[str] = field(default_factory=list)
    transposed: bool = False

    def recorded(self, rank: float) -> JsonObject:
        """Return what is kept of it with the version."""
        energy = self.change.energy
        left_out = {name: round(lost / energy, 6) for name, lost in sorted(self.change.left_out.items())}
        return {
            "rank": rank,
            "energy_kept": round(self.change.share, 6),
            "energy_by_rank": self.change.curve(),
            "left_out": left_out,
        }


def make_adapter(
    folder: Path, backbone: Backbone, task: TaskRecord, *, rank: float, target: Path, progress: Progress
) -> MadeOfModel:
    """Write a peft adapter of what a whole model changed of the base into `target`.

    Raises:
        NotFoundError: The folder is none of a whole model.
        IntegrityError: It is no copy of this base.
        UsageError: It is the base itself, or a LoRA can't keep that much of its change; the message has the curve.
    """
    if not all(parameter.is_floating_point() for parameter in backbone.model.parameters()):
        raise UsageError(
            f"The base {backbone.record.name!r} is quantised, and what a copy changed is the difference to its own "
            "numbers.",
            "limpet init --home FOLDER --base SPEC, without --quantize",
        )
    made = MadeOfModel(open_whole_model(folder, backbone))
    embeddings = _changes(made, backbone, rank)
    _keep_norms(made, backbone)
    writes = task.definition.type == "generation"
    if writes:
        _leave_out_head(made, backbone)
    if made.change.energy == 0 and not embeddings and not made.biases:
        raise UsageError(
            f"The model in {folder} is the base {backbone.record.name!r} itself, so there is nothing to make an "
            "adapter of.",
            f"limpet train {task.name} --method linear-probe",
        )
    tied = backbone.model.get_input_embeddings() if writes and _is_tied(backbone) else None
    for name in embeddings:
        _keep_words(made, backbone, name, rank=rank, read_twice=backbone.model.get_submodule(name) is tied)
    _keep_biases(made, backbone)
    refuse_left_out(made.change, rank, str(folder))
    ranks = [factors.rank for factors in (*made.layers.values(), *made.embeddings.values())]
    refuse_large(made.change, ranks or [0], rank=rank, model=str(folder))
    _write(made, backbone, target, task=task)
    _tell(made, progress)
    return made


def _changes(made: MadeOfModel, backbone: Backbone, rank: float) -> list[str]:
    """Factorise the linear layers, read biases and norms, leave out the rest; return the embeddings that changed."""
    from transformers.pytorch_utils import Conv1D

    embeddings: list[str] = []
    bare_names = {name: bare for bare, name in made.model.inner.items()}
    for name, tensor in made.model.read(sorted(bare_names)):
        bare = bare_names[name]
        own = backbone.model.get_parameter(bare)
        delta = _difference(tensor, own)
        if delta is None:
            continue
        module_name, _, leaf = bare.rpartition(".")
        module = backbone.model.get_submodule(module_name)
        if isinstance(module, nn.Linear | Conv1D) and leaf == "weight":
            made.transposed |= isinstance(module, Conv1D)
            oriented = delta.T if isinstance(module, Conv1D) else delta
            made.layers[module_name] = factorise(oriented, rank, made.change)
        elif isinstance(module, nn.Linear | Conv1D) and leaf == "bias":
            made.biases[module_name] = delta
        elif isinstance(module, nn.Embedding):
            embeddings.append(module_name)
        elif is_norm(module):
            made.norms[bare] = _changed(tensor, own, delta)
        else:
            made.change.leave_out(bare, delta)
    return embeddings


def _difference(tensor: Tensor, own: Tensor) -> Tensor | None:
    """Return what was changed of a tensor of the base; null for nothing."""
    if is_same(tensor, own):
        return None
    # a copy in a smaller dtype began with the base rounded to it
    return tensor.float() - own.detach().cpu().to(tensor.dtype).float()


def _changed(tensor: Tensor, own: Tensor, delta: Tensor) -> Tensor:
    """Return a tensor of the base with what was changed of it, without what only rounding did."""
    return tensor if tensor.dtype == own.dtype else own.detach().cpu().float() + delta


def _keep_norms(made: MadeOfModel, backbone: Backbone) -> None:
    """Keep the norms that changed, and leave out those that peft can't tell from what is no norm."""
    for module in sorted({bare.rpartition(".")[0] for bare in made.norms}):
        own = {name: p for name, p in _tensors_of([module], backbone) if name in made.norms}
        deltas = {name: made.norms[name].float() - p.detach().cpu().float() for name, p in own.items()}
        if no_norms([module], backbone.model):
            for name, delta in deltas.items():
                made.change.leave_out(name, delta)
        else:
            made.modules_to_save.append(module)
            for delta in deltas.values():
                made.change.keep(delta)


def _tensors_of(modules: list[str], backbone: Backbone) -> Iterator[tuple[str, Tensor]]:
    for module in modules:
        for leaf, own in backbone.model.get_submodule(module).named_parameters():
            yield f"{module}.{leaf}", own


def _is_tied(backbone: Backbone) -> bool:
    return backbone.lm_head is not None and backbone.lm_head.weight is None


def _leave_out_head(made: MadeOfModel, backbone: Backbone) -> None:
    """Count what changed of a language-model head of its own, which belongs to the base."""
    lm_head = backbone.lm_head
    if lm_head is not None and lm_head.weight is not None and made.model.words is not None:
        ((_, tensor),) = made.model.read([made.model.words])
        delta = _difference(tensor, lm_head.weight)
        if delta is not None:
            made.change.leave_out(LM_HEAD, delta)


def _keep_words(made: MadeOfModel, backbone: Backbone, name: str, *, rank: float, read_twice: bool) -> None:
    """Keep an embedding's change: as an update of low rank, or by its rows where biases need the place.

    Args:
        made: The adapter.
        backbone: The base.
        name: The embedding.
        rank: The rank, or the share to keep.
        read_twice: Whether the language-model head is the same matrix; of that, an update changes nothing.
    """
    bare = f"{name}.weight"
    own = backbone.model.get_parameter(bare)
    ((_, tensor),) = made.model.read([made.model.inner[bare]])
    delta = _difference(tensor, own)
    assert delta is not None
    if made.biases and wrapped_by([name], backbone.model) == [name]:
        changed = _changed(tensor, own, delta)
        indices = largest_rows(delta, rank, made.change, times=2 if read_twice else 1)
        made.rows[name] = {index: changed[index] for index in indices}
    elif made.biases:
        made.change.leave_out(bare, delta)
    else:
        made.embeddings[name] = factorise(delta.T, rank, made.change)
    if read_twice and name not in made.rows:
        made.change.leave_out(LM_HEAD, delta)


def _keep_biases(made: MadeOfModel, backbone: Backbone) -> None:
    """Keep the biases, each with an update of its layer: peft hangs one on the other."""
    from transformers.pytorch_utils import Conv1D

    linear = {name: layer for name, layer in backbone.model.named_modules() if isinstance(layer, nn.Linear | Conv1D)}
    for delta in made.biases.values():
        made.change.keep(delta)
    lacking = made.biases.keys() - made.layers.keys()
    if not (lacking or made.layers or made.embeddings):
        # a LoRA of no layer is none to peft
        lacking = {next(iter(linear))}
    for name in sorted(lacking):
        made.transposed |= isinstance(linear[name], Conv1D)
        weight = linear[name].weight
        outputs, inputs = (weight.T if isinstance(linear[name], Conv1D) else weight).shape
        made.layers[name] = Factors(torch.zeros(1, inputs), torch.zeros(outputs, 1))


def _write(made: MadeOfModel, backbone: Backbone, target: Path, *, task: TaskRecord) -> None:
    tensors: dict[str, Tensor] = {}
    for name, factors in made.layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = factors.a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = factors.b
        if made.biases:
            zero = torch.zeros(len(factors.b))
            tensors[f"{PREFIX}{name}.lora_B.bias"] = made.biases.get(name, zero)
    for name, factors in made.embeddings.items():
        tensors[f"{PREFIX}{name}.lora_embedding_A"] = factors.a
        tensors[f"{PREFIX}{name}.lora_embedding_B"] = factors.b
    for name, rows in made.rows.items():
        tensors[f"{PREFIX}{name}.token_adapter.trainable_tokens_delta"] = torch.stack(list(rows.values()))
    for name, own in _tensors_of(wrapped_by(made.modules_to_save, backbone.model), backbone):
        tensors[f"{PREFIX}{name}"] = made.norms.get(name, own.detach().cpu())
    if task.definition.type != "generation":
        tensors |= {f"{PREFIX}{name}": tensor for name, tensor in made.model.read(made.model.outside)}
    ranks = {name: factors.rank for name, factors in sorted({**made.layers, **made.embeddings}.items())}
    most = max(ranks.values())
    # a factor equal to the rank scales by 1
    lower = {name: rank for name, rank in ranks.items() if rank != most}
    config = {
        "peft_type": "LORA",
        "r": most,
        "lora_alpha": most,
        "target_modules": sorted(ranks),
        "rank_pattern": lower,
        "alpha_pattern": lower,
        "lora_bias": bool(made.biases),
        "fan_in_fan_out": made.transposed,
        "trainable_token_indices": {name: list(rows) for name, rows in made.rows.items()} or None,
    }
    (target / PEFT_FILES[0]).write_text(json.dumps(config), encoding="utf-8")
    contiguous = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
    save_file(contiguous, target / PEFT_FILES[1], metadata={"format": "pt"})


def _tell(made: MadeOfModel, progress: Progress) -> None:
    change = made.change
    progress.note(f"the adapter keeps {100 * change.share:.1f} % of what the model changed: {change.told_curve()}")
    if change.left_out:
        largest = sorted(change.left_out, key=lambda name: -change.left_out[name])
        told = ", ".join(f"{name} ({100 * change.left_out[name] / change.energy:.2f} %)" for name in largest[:3])
        more = f" and {len(largest) - 3} more" if len(largest) > 3 else ""
        progress.note(f"left out, as a LoRA has no place for it: {told}{more}")


def compare(
    store: Store, backbone: Backbone, task: TaskRecord, *, made: MadeOfModel, files: Mapping[str, Path]
) -> JsonObject:
    """Return how many answers to the evaluation split the adapter gives otherwise than the model that it was made of.

    Args:
        store: The home's registry.
        backbone: The base.
        task: The task.
        made: The adapter.
        files: Its files, with its head.
    """
    examples = read_split(store, task, "evaluation")
    length = task.definition.max_length

    def answers(beside: Backbone, method: str, model: TaskModel) -> list[Any]:
        attached = AttachedModel(beside, methods.get(method), model)
        encoded = model.encode(beside.tokenizer, examples, length)
        return list(predict_split(attached, encoded, bypass_cache=True).predictions)

    with active(backbone, methods.DEFAULT, files, head=files) as model:
        ours = answers(backbone, methods.DEFAULT, model)
    whole = _whole(made, backbone)
    head = bound_head(whole, files)
    theirs = answers(whole, methods.WHOLE_COPY, TaskModel(whole.model, head, frozenset()).eval())
    if task.definition.type == "regression":
        apart = [abs(float(one) - float(other)) for one, other in zip(ours, theirs, strict=True)]
        return {"examples": len(ours), "largest_difference": max(apart)}
    return {"examples": len(ours), "flips": sum(one != other for one, other in zip(ours, theirs, strict=True))}


def told_comparison(compared: JsonObject) -> str:
    """Return what `compare` found, in a sentence."""
    examples = compared["examples"]
    if "flips" in compared:
        return f"the adapter gives {compared['flips']} of {examples} answers otherwise than the model it was made of"
    return f"the adapter's {examples} answers differ from the model's by {compared['largest_difference']:.4g} at most"


def _whole(made: MadeOfModel, backbone: Backbone) -> Backbone:
    """Return the base with the tensors of the model in the place of its own, which stay as they are."""
    model = shared_copy(backbone.model)
    bare_names = {name: bare for bare, name in made.model.inner.items()}
    for name, tensor in made.model.read(sorted(bare_names)):
        module_name, _, leaf = bare_names[name].rpartition(".")
        module = model.get_submodule(module_name)
        own = getattr(module, leaf)
        setattr(module, leaf, nn.Parameter(tensor.to(device=own.device, dtype=own.dtype), requires_grad=False))
    lm_head = backbone.lm_head
    if made.model.words is not None and lm_head is not None and lm_head.weight is not None:
        ((_, words),) = made.model.read([made.model.words])
        weight = words.to(device=lm_head.weight.device, dtype=lm_head.weight.dtype)
        lm_head = LanguageHead(weight, lm_head.bias, lm_head.scale)
    return replace(backbone, model=model, lm_head=lm_head)
