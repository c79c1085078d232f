"""Merging: the update of a version added into a copy of the weights that it adapts, for serving without an adapter.

W' = W + delta W, as LoRA's authors serve it (Hu et al. 2021, section 4.1): afterwards the model has the base's own
layers and no others, so it answers as fast as the base. The base is never merged into: merging and taking away again
is not exact, and other adapters stand on the same weights. What is adapted is copied first; all else is shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from limpet.errors import IntegrityError, UsageError
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.shared_copy import shared_copy
from limpet.training.model.task_model import TaskModel, bound_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["check_mergeable", "merged", "merged_module"]


def check_mergeable(method_name: str) -> None:
    """Refuse a method whose update is no change of weights.

    Raises:
        UsageError: It can't be merged.
    """
    if not methods.get(method_name).capabilities.mergeable:
        able = [name for name in methods.names() if methods.get(name).capabilities.mergeable]
        raise UsageError(
            f"What {method_name!r} learns is not a change of the base's weights, so it can't be merged into them; "
            f"{' and '.join(able)} can.",
            "limpet methods",
        )


@contextmanager
def merged(
    backbone: Backbone, method_name: str, state: Mapping[str, Path], *, head: Mapping[str, Path]
) -> Iterator[TaskModel]:
    """Give a model with an adapter merged into copies of the adapted weights, for the length of a `with` block.

    Args:
        backbone: The base in memory; it is checked to be unchanged afterwards.
        method_name: The method that wrote `state`.
        state: Files with the method's tensors.
        head: Files with the head.

    Raises:
        UsageError: The method or the adapter can't be merged.
        IntegrityError: A file does not fit this base, a merged weight is not finite, or the base was changed.
    """
    check_mergeable(method_name)
    task_head = bound_head(backbone, head)
    module = merged_module(backbone.model, methods.get(method_name), state)
    try:
        yield TaskModel(module, task_head, frozenset()).eval()
    finally:
        backbone.check_untouched()


def merged_module(model: PreTrainedModel, method: methods.Method, state: Mapping[str, Path]) -> PreTrainedModel:
    """Return a copy of `model` with an adapter merged in; weights that are not adapted are shared with `model`.

    Args:
        model: A transformers model; it stays as it is.
        method: A method that can be merged.
        state: Files with the method's tensors.

    Raises:
        UsageError: The adapter is more than a change of weights that the model has.
        IntegrityError: A file does not fit, or a merged weight is not finite.
    """
    module: PreTrainedModel = method.load(shared_copy(model), state)
    _own_weights(module)
    try:
        plain = module.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise IntegrityError(f"The adapter can't be merged: {error}", "limpet verify --probe") from error
    except RuntimeError as error:
        # such as a `lora_bias` beside a layer that has none
        raise UsageError(f"The adapter can't be merged: {error}", "export it without --merged") from error
    return plain.eval().requires_grad_(False)


def _own_weights(module: nn.Module) -> None:
    """Give every adapted layer copies of its weights: what is merged into them is merged into nothing else."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for layer in module.modules():
        if isinstance(layer, BaseTunerLayer):
            base_layer: nn.Module = layer.get_base_layer()
            for name, parameter in list(base_layer.named_parameters(recurse=False)):
                setattr(base_layer, name, nn.Parameter(parameter.detach().clone(), requires_grad=False))
