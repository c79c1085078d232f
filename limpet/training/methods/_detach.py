"""The base as it was: every module of it remembered before a method is attached, and put back afterwards.

peft takes most of its methods off by itself, but not all of them, and not after a failed attach: wrapped layers,
hooks, attributes and gradient flags stay behind. So nothing is asked of it; what was there is put back.
"""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["Remembered", "remember"]


class Remembered:
    """The attributes of all modules of a model, and its parameters' gradient flags; tensors are not copied."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(module, _attributes(module)) for module in model.modules()]
        self._parameters = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        config = getattr(model, "config", None)
        self._config = (config, dict(vars(config))) if config is not None else None

    def restore(self) -> None:
        """Put everything back; what was added since is gone."""
        for module, attributes in self._modules:
            state = vars(module)
            state.clear()
            for name, (value, content) in attributes.items():
                if content is not None:
                    # in place: whoever holds a handle on a hook holds this dictionary
                    value.clear()
                    value.update(content)
                state[name] = value
        for parameter, trained in self._parameters:
            parameter.requires_grad_(trained)
            if not trained:
                parameter.grad = None
        if self._config is not None:
            config, fields = self._config
            vars(config).clear()
            vars(config).update(fields)


def remember(model: nn.Module) -> Remembered:
    """Remember a model as it is now."""
    return Remembered(model)


def _attributes(module: nn.Module) -> dict[str, tuple[Any, dict[Any, Any] | None]]:
    return {
        name: (value, dict(value) if isinstance(value, dict) and name.startswith("_") else None)
        for name, value in vars(module).items()
    }
