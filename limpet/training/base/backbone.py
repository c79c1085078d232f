"""The base in memory: loaded once, frozen, and checked to be the same after every use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from limpet.errors import IntegrityError, UsageError
from limpet.first_few import first_few
from limpet.registry.store import Store
from limpet.registry.values import BaseRecord, Environment
from limpet.training.base import locate
from limpet.training.base.base_checks import absent_pooler, check_nothing_missing
from limpet.training.base.environment import current_environment
from limpet.training.base.frozen_layers import LowerStates
from limpet.training.base.holding.recipes import check_library, recipe_of
from limpet.training.base.holding.stored import check_stored
from limpet.training.base.lm_head import LanguageHead, split_head
from limpet.training.base.precision import check_dtype, resolve_dtype
from limpet.training.base.pretrained import load_config, load_held, load_tokenizer
from limpet.training.base.tensor_digests import Untouched, digests_of, module_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Backbone", "load_backbone", "positions"]


@dataclass(frozen=True)
class Backbone:
    """A base with its transformers model (evaluation mode, no gradients) and tokenizer.

    Weights are held in `held_dtype`, that of the base's files where all are of one: see
    `limpet.training.base.holding.short_weights`. `served_dtype` is what products of answers that go out are computed
    in.

    `loaded` has the digest of every parameter and buffer as they were loaded, and `untouched` sees which of them were
    written to since they were last found to be so. `lm_head` is the base's own
    language-model head, where it has one; the model itself is without it. `evaluation_dtype` is what the monitor
    computes products in, `float32` or `bfloat16`. `lower_states` has what its lower layers gave for texts. With
    `pooled` false, the base's files have no pooler, and its output is never read. `layers` is how many the base has,
    also where only its first ones were loaded.
    """

    record: BaseRecord
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    loaded: Mapping[str, str]
    untouched: Untouched
    lm_head: LanguageHead | None = None
    evaluation_dtype: str = "float32"
    served_dtype: str = "float32"
    held_dtype: str = "float32"
    lower_states: LowerStates = field(default_factory=LowerStates)
    pooled: bool = True
    layers: int = 0

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        device: torch.device = self.model.device
        return device

    def environment(self, dtype: str) -> Environment:
        """Describe this process, computing products of this base in `dtype`."""
        passes_on = self.held_dtype == dtype == "bfloat16"
        return current_environment(dtype, "bfloat16" if passes_on else "float32")

    def serving_in(self, dtype: str) -> Backbone:
        """Return the same base with answers that go out in another dtype: `auto`, `float32` or `bfloat16`.

        Raises:
            UsageError: There is no such dtype, or not for this architecture.
        """
        check_dtype(dtype)
        if dtype == "auto":
            return self
        return replace(self, served_dtype=resolve_dtype(dtype, self.record.architecture))

    def language_head(self) -> LanguageHead:
        """Return the base's language-model head.

        Raises:
            UsageError: The base has none.
        """
        if self.lm_head is None:
            what = "an encoder" if self.record.family == "encoder" else "without a language-model head"
            raise UsageError(
                f"The base {self.record.name!r} is {what}, so it can't write or score words.",
                "limpet init --home FOLDER --base sample:smollm2",
            )
        return self.lm_head

    def check_unchanged(self) -> None:
        """Digest every parameter and buffer, and compare them with what was loaded.

        Raises:
            IntegrityError: A tensor of the base was trained, drifted or was left modified.
        """
        tensors = module_tensors(_whole(self.model, self.lm_head))
        self._compare(digests_of(tensors), gone=self.loaded.keys() - tensors.keys())
        self.untouched.keep(tensors)

    def check_untouched(self) -> None:
        """Compare what may have changed since the last full comparison with what was loaded; see `Untouched`.

        Raises:
            IntegrityError: A tensor of the base was trained, drifted or was left modified.
        """
        tensors = module_tensors(_whole(self.model, self.lm_head))
        touched = self.untouched.touched(tensors)
        self._compare(digests_of(touched), gone=self.loaded.keys() - tensors.keys())

    def _compare(self, now: Mapping[str, str], *, gone: Iterable[str]) -> None:
        changed = sorted({*gone, *(name for name, digest in now.items() if self.loaded.get(name) != digest)})
        if changed:
            buffers = dict(_whole(self.model, self.lm_head).named_buffers())
            kind = "buffer" if changed[0] in buffers else "parameter"
            named = first_few((name.removeprefix("base.") for name in changed), 1)
            raise IntegrityError(
                f"The base {self.record.name!r} was changed in memory: the {kind} "
                f"{named} differ{'s' if len(changed) == 1 else ''} from what was loaded. Nothing was registered.",
                "limpet base verify",
            )


def load_backbone(
    store: Store, record: BaseRecord, evaluation_dtype: str = "auto", *, first_layers: int | None = None
) -> Backbone:
    """Check the base's files against its fingerprint, then load them.

    Args:
        store: The home's registry.
        record: The base.
        evaluation_dtype: What the monitor is to compute products in: `auto`, `float32` or `bfloat16`.
        first_layers: Load so many of its layers alone, to measure what they take: no answer is made by them.

    Raises:
        IntegrityError: The files are not those of the fingerprint.
        UsageError: There is no such dtype, or the files lack tensors of the model.
    """
    folder = locate.check(store, record)
    # on CPU, torch's fused attention is slower than plain products at small head sizes
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    check_library(record)
    check_stored(record.location.get("stored"), record.name)
    recipe = recipe_of(record) or {}
    loaded, dtype = load_held(
        folder, record.family, recipe=recipe, first_layers=first_layers, attn_implementation=attention
    )
    check_nothing_missing(loaded, record.name)
    pooler = absent_pooler(loaded.missing)
    with torch.no_grad():
        # nothing of a base is drawn at random, not even what nobody reads
        for name in pooler:
            loaded.model.get_parameter(name).zero_()
    model, lm_head = split_head(loaded)
    model = model.eval().requires_grad_(False)
    if torch.cuda.is_available():
        model = model.cuda()
        lm_head = lm_head and lm_head.cuda()
    tokenizer = load_tokenizer(folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tensors, untouched = module_tensors(_whole(model, lm_head)), Untouched()
    digests = digests_of(tensors)
    untouched.keep(tensors)
    return Backbone(
        record,
        model,
        tokenizer,
        digests,
        untouched,
        lm_head=lm_head,
        evaluation_dtype=resolve_dtype(evaluation_dtype, record.architecture),
        served_dtype=_served_dtype(record, dtype),
        held_dtype=dtype,
        pooled=not pooler,
        layers=int(load_config(folder).num_hidden_layers),
    )


def _served_dtype(record: BaseRecord, held: str) -> str:
    """Return what answers are computed in: float32 where the weights were stored in it, else what is quick."""
    is_short = held != "float32" or locate.was_shorter(record)
    return resolve_dtype("auto", record.architecture) if is_short else "float32"


def _whole(model: nn.Module, lm_head: LanguageHead | None) -> nn.Module:
    """A base in memory; a head that reads the word embeddings has no tensor of its own."""
    return nn.ModuleDict({"base": model} if lm_head is None else {"base": model, "lm_head": lm_head})


def positions(model: PreTrainedModel) -> int | None:
    """Return how many tokens a model has positions for; null where it has no such limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not limit:
        return None
    # RoBERTa numbers its positions from behind the padding's
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    paddings = [table.padding_idx for table in tables if getattr(table, "padding_idx", None) is not None]
    return int(limit) - (paddings[0] + 1 if paddings else 0)
