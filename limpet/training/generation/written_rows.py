"""Rows that are being written, side by side: their keys and values, in buffers with room for what is still to come.

transformers' own cache is copied for every word, and grows by the heads that share keys before they are used. Here a
word is put where there is room for it, in the dtype that products are computed in, and rows that ended are left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["WrittenRows", "expanded", "fused", "is_numbered", "is_plain", "tokens_at_once"]

_LEAST_BYTES = 1 << 29
_FUSED = "limpet_fused"


def is_plain(cache: Cache) -> bool:
    """Tell whether every layer of a cache keeps keys and values of all tokens, so that a mask can leave some out."""
    return all(type(layer) is DynamicLayer for layer in getattr(cache, "layers", (None,)))


def is_numbered(model: PreTrainedModel) -> bool:
    """Tell whether a model takes the positions of its tokens."""
    return "position_ids" in inspect.signature(type(model).forward).parameters


def expanded(cache: Cache, rows: int) -> Cache:
    """Return a cache in which the only row of another stands so many times; nothing is copied."""
    copies = []
    for layer in cache.layers:
        copy = DynamicLayer()
        copy.lazy_initialization(layer.keys, layer.values)
        copy.keys, copy.values = (tensor.expand(rows, -1, -1, -1) for tensor in (layer.keys, layer.values))
        copies.append(copy)
    return Cache(layers=copies)


def tokens_at_once(model: PreTrainedModel, dtype: str) -> int:
    """Return of how many tokens keys and values are kept together at the most.

    On an accelerator they take a quarter of its memory; on a processor as much as a quarter of the base, so that a
    word's time stays that of reading the weights, or half a GiB where that is more.

    Args:
        model: The base.
        dtype: What evaluations are computed in, and keys and values kept in.
    """
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each: int = 2 * config.num_hidden_layers * heads * width * (2 if dtype == "bfloat16" else 4)
    if model.device.type == "cuda":
        memory: int = torch.cuda.get_device_properties(model.device).total_memory
        return max(1, memory // 4 // each)
    of_base: int = sum(p.nbytes for p in model.parameters())
    return max(1, max(_LEAST_BYTES, of_base // 4) // each)


@contextmanager
def fused(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Let attention be torch's fused one, where that is `wanted` and the model has it.

    One word's fused attention reads keys and values once for all heads that share them; the plain one copies them for
    each head, which took six times as long with SmolLM2's heads.
    """
    config, plain = model.config, model.config._attn_implementation
    if wanted and plain == "eager" and getattr(model, "_supports_sdpa", False):
        AttentionInterface.register(_FUSED, _fused_attention)
        AttentionMaskInterface.register(_FUSED, sdpa_mask)
        config._attn_implementation = _FUSED
    try:
        yield
    finally:
        config._attn_implementation = plain


def _fused_attention(  # noqa: PLR0917 (transformers hands them on by their place)
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: object
) -> tuple[Tensor, None]:
    if attention_mask is None and query.shape[2] == 1:
        # without a mask, torch would share keys among heads by itself, and take four times as long on a processor
        attention_mask = query.new_ones((1, 1, 1, key.shape[2]), dtype=torch.bool)
    output: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **options)[0]
    return output, None


class WrittenRows:
    """The state of some rows that are written together, one word of each at a time.

    Args:
        model: The transformers model within the method's module.
        mask: Where the rows have tokens (rows, width), virtual ones in front included.
        room: How many words can be written after them.
        fused: Whether attention is fused while they are written.
    """

    def __init__(self, model: PreTrainedModel, mask: Tensor, *, room: int, fused: bool) -> None:
        self._model, self._mask, self._room, self._fused = model, mask, room, fused
        self._positions = mask.sum(dim=1)
        self._cache = Cache(layers=[])
        self._numbered = is_numbered(model)

    def put(self, rows: Tensor, cache: Cache) -> None:
        """Take the keys and values of the prompts of some rows, by their indices."""
        batch, width = self._mask.shape
        for at, layer in enumerate(cache.layers):
            if at == len(self._cache.layers):
                self._cache.layers.append(_RoomyLayer(layer, batch, width, room=self._room))
            self._cache.layers[at].put(rows, layer)

    def step(self, tokens: Tensor) -> Tensor:
        """Write a token into each row (rows,), and return the hidden states (rows, hidden) that follow from it."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        places = {"position_ids": self._positions.unsqueeze(1)} if self._numbered else {}
        with fused(self._model, self._fused):
            following = self._model(
                input_ids=tokens.unsqueeze(1),
                attention_mask=self._mask,
                past_key_values=self._cache,
                use_cache=True,
                **places,
            )
        self._positions = self._positions + 1
        last: Tensor = following.last_hidden_state[:, -1]
        return last

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all rows but these, by their indices."""
        kept = torch.tensor(rows, device=self._mask.device)
        self._mask, self._positions = self._mask[kept], self._positions[kept]
        self._cache.batch_select_indices(kept)


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, at the beginning of buffers that are longer than they."""

    def __init__(self, like: DynamicLayer, batch: int, width: int, *, room: int) -> None:
        super().__init__()
        keys, values = (_buffer(tensor, batch, width + room) for tensor in (like.keys, like.values))
        self._buffers = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._show(width)

    def put(self, rows: Tensor, layer: DynamicLayer) -> None:
        """Take the keys and values of the prompts of some rows."""
        for buffer, tensor in zip(self._buffers, (layer.keys, layer.values), strict=True):
            buffer[rows, :, : tensor.shape[2]] = tensor.to(buffer.dtype)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """See transformers' `CacheLayerMixin.update`."""
        start = self.keys.shape[2]
        end = start + key_states.shape[2]
        for buffer, tensor in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = tensor
        self._show(end)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """See transformers' `CacheLayerMixin.batch_select_indices`."""
        width = self.keys.shape[2]
        keys, values = (buffer[indices] for buffer in self._buffers)
        self._buffers = keys, values
        self._show(width)

    def _show(self, width: int) -> None:
        self.keys, self.values = (buffer[:, :, :width] for buffer in self._buffers)


def _buffer(like: Tensor, batch: int, width: int) -> Tensor:
    kind = like.device.type
    # autocast would cast them for each word's products; what is padding counts for nothing, but has to be finite
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype
    return like.new_zeros((batch, like.shape[1], width, like.shape[3]), dtype=dtype)
