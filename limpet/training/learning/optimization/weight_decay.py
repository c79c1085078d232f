"""Weight decay: which of the trained parameters are pulled towards 0, and which stay where their gradients put them.

Decay is a prior that a weight is near 0. It suits the matrices of products. A norm's weight and a factor are 1 where
they change nothing, and a bias shifts by as much whatever its size: to pull those towards 0 changes what the base
computes, and (IA)3's factors, which begin at 1, would be pulled off the base itself.
"""

from __future__ import annotations

from torch import nn

__all__ = ["decayed_names"]


def decayed_names(model: nn.Module) -> frozenset[str]:
    """Return the names of the trained parameters that are decayed: the weights of products and of embeddings.

    Those are the matrices of linear layers and embeddings, also of one row or column (a LoRA of rank 1), and other
    tensors with two dimensions at least that are larger than 1. Biases, norms, factors and scales are none of them.

    Args:
        model: The model that is trained.
    """
    from transformers.pytorch_utils import Conv1D

    products = (nn.Linear, nn.Embedding, Conv1D)
    return frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
        and ((isinstance(module, products) and name == "weight") or sum(size > 1 for size in parameter.shape) > 1)
    )
