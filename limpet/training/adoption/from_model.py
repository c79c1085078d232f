"""A LoRA of a whole fine-tuned copy of the base: what of the copy it holds, what not, and which answers that costs.

Linear layers and word embeddings become low-rank updates, the biases of linear layers biases of these, and a head of
transformers' is kept as it is. Norms have no place in a LoRA, nor has a language-model head: they are left out,
counted and recorded. The copy is read tensor by tensor; it is in memory as a whole only while its answers are
compared with those of the adapter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
from limpet.training.adoption.low_rank_change import Change, Factors, factorise, refuse_large, refuse_left_out
from limpet.training.adoption.peft_wrapper import PREFIX, is_same
from limpet.training.adoption.whole_model import LM_HEAD, WholeModel, open_whole_model
from limpet.training.base.backbone import Backbone
from limpet.training.base.lm_head import LanguageHead
from limpet.training.base.shared_copy import shared_copy
from limpet.training.data.stored_splits import read_split
from limpet.training.evaluation.predict_split import AttachedModel, predict_split
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
        biases: The change of each linear layer's bias.
        transposed: Whether linear layers keep their weights as (in, out), as GPT-2's.
    """

    model: WholeModel
    change: Change = field(default_factory=Change)
    layers: dict[str, Factors] = field(default_factory=dict)
    embeddings: dict[str, Factors] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
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
    deltas = _changes(made, backbone, rank)
    if task.definition.type == "generation":
        _leave_out_words(made, backbone, deltas)
    if made.change.energy + sum(deltas.values()) == 0:
        raise UsageError(
            f"The model in {folder} is the base {backbone.record.name!r} itself, so there is nothing to make an "
            "adapter of.",
            f"limpet train {task.name} --method linear-probe",
        )
    _keep_words_or_biases(made, backbone, deltas, rank=rank)
    refuse_left_out(made.change, rank, str(folder))
    ranks = [factors.rank for factors in (*made.layers.values(), *made.embeddings.values())]
    refuse_large(made.change, ranks or [0], rank=rank, model=str(folder))
    _write(made, target, task)
    _tell(made, progress)
    return made


def _changes(made: MadeOfModel, backbone: Backbone, rank: float) -> dict[str, float]:
    """Factorise the linear layers, keep biases, leave out the rest; return the energy of each embedding's change."""
    from transformers.pytorch_utils import Conv1D

    embeddings: dict[str, float] = {}
    bare_names = {name: bare for bare, name in made.model.inner.items()}
    for name, tensor in made.model.read(sorted(bare_names)):
        bare = bare_names[name]
        delta = _difference(tensor, backbone.model.get_parameter(bare))
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
            embeddings[module_name] = float(delta.double().square().sum())
        else:
            made.change.leave_out(bare, delta)
    return embeddings


def _difference(tensor: Tensor, own: Tensor) -> Tensor | None:
    """Return what was changed of a tensor of the base; null for nothing."""
    if is_same(tensor, own):
        return None
    # a copy in a smaller dtype began with the base rounded to it
    return tensor.float() - own.detach().cpu().to(tensor.dtype).float()


def _leave_out_words(made: MadeOfModel, backbone: Backbone, embeddings: Mapping[str, float]) -> None:
    """Count what changed of the language-model head, which belongs to the base."""
    lm_head = backbone.lm_head
    if lm_head is not None and lm_head.weight is not None and made.model.words is not None:
        ((_, tensor),) = made.model.read([made.model.words])
        delta = _difference(tensor, lm_head.weight)
        if delta is not None:
            made.change.leave_out(LM_HEAD, delta)
    elif lm_head is not None and lm_head.weight is None:
        words = backbone.model.get_input_embeddings()
        for name, energy in embeddings.items():
            if backbone.model.get_submodule(name) is words:
                made.change.left_out[LM_HEAD] = energy
                made.change.energy += energy


def _keep_words_or_biases(
    made: MadeOfModel, backbone: Backbone, energies: Mapping[str, float], *, rank: float
) -> None:
    """Keep the embeddings or the biases, whichever changed more: peft's LoRA has no place for both."""
    of_biases = sum(float(delta.double().square().sum()) for delta in made.biases.values())
    if energies and sum(energies.values()) >= of_biases:
        for name, delta in made.biases.items():
            made.change.leave_out(f"{name}.bias", delta)
        made.biases.clear()
    for name in sorted(energies):
        bare = f"{name}.weight"
        ((_, tensor),) = made.model.read([made.model.inner[bare]])
        changed = _difference(tensor, backbone.model.get_parameter(bare))
        assert changed is not None
        if made.biases:
            made.change.leave_out(bare, changed)
        else:
            made.embeddings[name] = factorise(changed.T, rank, made.change)
    for delta in made.biases.values():
        made.change.keep(delta)
    for name in made.biases.keys() - made.layers.keys():
        # peft hangs a bias on a layer's update, so there must be one
        layer = backbone.model.get_submodule(name)
        inputs, outputs = (layer.weight.T if made.transposed else layer.weight).T.shape
        made.layers[name] = Factors(torch.zeros(1, inputs), torch.zeros(outputs, 1))


def _write(made: MadeOfModel, target: Path, task: TaskRecord) -> None:
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
