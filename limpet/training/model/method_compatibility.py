"""Trying a method on a model: what `limpet methods` says is what was found this way.

A method works on a model when it attaches, learns three steps in which something moves, takes itself off leaving
every tensor as it was, and comes back from its files with the same logits.
"""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limpet.errors import LimpetError
from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.heads import Head, HeadConfig
from limpet.training.heads.classification import ClassificationHead
from limpet.training.model.task_model import TaskModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["INPUTS", "Compatibility", "try_method", "load_again", "try_all", "tiny_model"]

# the second text is shorter and padded
INPUTS = {
    "input_ids": torch.tensor([[2, 7, 8, 15, 3, 11], [2, 9, 3, 0, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),
}
_STEPS = 3
_LABELS = 3
_VOCABULARY = 64


@dataclass(frozen=True)
class Compatibility:
    """What came of trying a method: why it does not work, or an empty reason and the logits of what was learned."""

    reason: str
    logits: Tensor | None


def try_method(model: PreTrainedModel, method: methods.Method, folder: Path) -> Compatibility:
    """Learn three steps with a method on `model`, and leave the files of what was learned in `folder`.

    Args:
        model: A transformers model in evaluation mode, without gradients; it is as before afterwards.
        method: The method.
        folder: An empty folder.
    """
    before = module_digest(model)
    try:
        learned = _learn(model, method, folder)
        loaded = load_again(model, method, {path.name: path for path in folder.iterdir()})
    except (LimpetError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        return Compatibility(_reason(error), None)
    if module_digest(model) != before:
        return Compatibility("it leaves the base changed", None)
    if not torch.equal(learned, loaded):
        return Compatibility("what it saves does not give the same answers again", None)
    return Compatibility("", learned)


def load_again(model: PreTrainedModel, method: methods.Method, files: Mapping[str, Path]) -> Tensor:
    """Return the logits (2, labels) of saved files for `INPUTS`."""
    if isinstance(method, methods.TrainingFree):
        return _own_head(model, method)
    frozen = frozenset(id(module) for module in model.modules())
    module = method.load(model, files)
    try:
        return _answer(TaskModel(module, _head(model), frozen))
    finally:
        method.detach(module)


def try_all(model: PreTrainedModel) -> dict[str, str]:
    """Return for every method why it does not work on `model`; an empty reason where it does."""
    reasons = {}
    for name in methods.names():
        with tempfile.TemporaryDirectory(prefix="limpet-try-") as folder:
            reasons[name] = try_method(model, methods.get(name), Path(folder)).reason
    return reasons


def tiny_model(config: PretrainedConfig) -> PreTrainedModel:
    """Return a model of the same architecture with two layers, few words and random weights."""
    from transformers import AutoModel

    small = copy.deepcopy(config)
    small.num_hidden_layers = min(2, small.num_hidden_layers)
    small.vocab_size = _VOCABULARY
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        if hasattr(small, name):
            setattr(small, name, None if getattr(small, name) is None else 0)
    if getattr(small, "layer_types", None):
        small.layer_types = small.layer_types[: small.num_hidden_layers]
    with _quiet_generator():
        model = AutoModel.from_config(small, attn_implementation="eager", trust_remote_code=False)
    return model.eval().requires_grad_(False)


def _learn(model: PreTrainedModel, method: methods.Method, folder: Path) -> Tensor:
    config = method.resolve(model, method.example)
    if isinstance(method, methods.TrainingFree):
        return _own_head(model, method)
    frozen = frozenset(id(module) for module in model.modules())
    with _quiet_generator():
        module = method.attach(model, config)
        try:
            head = _head(model)
            task_model = TaskModel(module, head, frozen)
            trained = [p for p in module.parameters() if p.requires_grad]
            before = [p.detach().clone() for p in trained]
            # by gradient descent, whatever has no gradient stays where it is
            optimizer = torch.optim.SGD([*trained, *head.parameters()], lr=0.05)
            for step in range(_STEPS):
                if step == 1:
                    # as after an epoch: what is computed in inference must not stay behind for the next step
                    _answer(task_model)
                task_model.train()
                loss = head.loss(task_model(**_on(model)), torch.tensor([0, 1], device=model.device))
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
            if not torch.isfinite(loss):
                raise ArithmeticError("its loss is not finite")
            if trained and all(torch.equal(old, new) for old, new in zip(before, trained, strict=True)):
                raise ArithmeticError("the model runs without it: nothing of it has a gradient")
            method.save(module, "a base", folder)
            # with a new head: only the adapter's own files are compared
            return _answer(TaskModel(module, _head(model), frozen))
        finally:
            method.detach(module)


def _own_head(model: PreTrainedModel, method: methods.TrainingFree) -> Tensor:
    """What such a head answers is all that there is to try: nothing is trained, and nothing attached."""
    logits: Tensor = method.attempt(model, _on(model)).cpu()
    return logits.clone()


def _answer(task_model: TaskModel) -> Tensor:
    task_model.eval()
    with torch.inference_mode():
        logits: Tensor = task_model(**_on(task_model.module)).cpu()
    return logits.clone()


def _head(model: PreTrainedModel) -> Head:
    with _quiet_generator():
        head = ClassificationHead(HeadConfig("classification", "mean", model.config.hidden_size, _LABELS, 0.0))
    return head.to(model.device)


def _on(model: nn.Module) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in INPUTS.items()}


@contextmanager
def _quiet_generator() -> Iterator[None]:
    """Draw from a fixed seed, and leave torch's generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _reason(error: Exception) -> str:
    text = error.message if isinstance(error, LimpetError) else str(error)
    text = text.partition(": ")[2] or text
    if "Conv1D" in text:
        return "the base's linear layers are transformers' Conv1D, which peft's method does not take"
    first = re.split(r"\.\s|\n", text.strip())[0]
    # what is in brackets are sizes of this very model
    return re.sub(r"\s*\([^)]*\)", "", first).rstrip(".") or type(error).__name__
