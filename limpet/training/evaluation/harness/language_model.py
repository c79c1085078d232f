"""A model as lm-eval asks one: its class for transformers models, with Limpet's own arithmetic behind it.

How texts become tokens, where long ones are cut, how windows roll over a document and what is cut from a written
answer is lm-eval's; what a token's probability is, and which word is written next, comes from the base with an
adapter on it, as everywhere else here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from limpet.errors import DataError
from limpet.training.base.backbone import Backbone, positions
from limpet.training.base.lm_head import virtual_tokens
from limpet.training.evaluation.harness.library import part
from limpet.training.evaluation.harness.likelihoods import Request, likelihoods
from limpet.training.evaluation.harness.writing import write_until
from limpet.training.generation.greedy_decoding import greedy
from limpet.training.generation.prompts import Endings, endings
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["Answerer", "AskedModel", "language_model"]

_ROWS = 16
"""Prompts that are written after together, and windows of documents that are looked at together."""


class AskedModel(Protocol):
    """lm-eval's language model, as far as it is read here."""

    max_length: int


class Answerer:
    """A base under some weights, asked for tokens: what stands in the place of a transformers model.

    Args:
        backbone: The base in memory.
        model: It, with a method and the head of its words.
        progress: Receives every batch.
    """

    def __init__(self, backbone: Backbone, model: TaskModel, progress: Progress = SILENT) -> None:
        self._backbone, self._model, self._progress = backbone, model, progress
        self._done = 0

    @property
    def device(self) -> torch.device:
        """Where the base is."""
        return self._backbone.device

    @property
    def config(self) -> PretrainedConfig:
        """The base's configuration."""
        return self._backbone.model.config

    @property
    def longest(self) -> int | None:
        """How many tokens a text may have; null where the base has no such limit."""
        places = positions(self._backbone.model)
        return None if places is None else places - virtual_tokens(self._model.module)

    @property
    def ends(self) -> Endings:
        """The tokens that end a text."""
        return endings(self._backbone.tokenizer, self.config)

    @contextmanager
    def counting(self, what: str, requests: int) -> Iterator[None]:
        """Tell the progress of so many requests, for the length of a `with` block."""
        self._done = 0
        self._progress.start(what, requests)
        yield
        self._progress.finish()

    def likelihoods(
        self, requests: Sequence[tuple[object, list[int], list[int]]], longest: int
    ) -> list[tuple[float, bool]]:
        """Return the log-likelihood of every continuation of a context, and whether it is the most probable one.

        Raises:
            DataError: A continuation has no token, or more than there are positions.
        """
        for _, _, continuation in requests:
            if not 0 < len(continuation) <= longest:
                raise DataError(
                    f"An answer of the task has {len(continuation)} tokens, and 1 to {longest} can be scored.",
                    "shorten it, or leave it out",
                )
        asked = [
            Request(tuple((context + continuation)[-(longest + 1) :][:-1]), tuple(continuation))
            for _, context, continuation in requests
        ]
        return likelihoods(self._model, asked, pad_id=self._pad_id, device=self.device, progress=self._progress)

    def write(self, context: torch.Tensor, mask: torch.Tensor, *, stops: Sequence[str], most: int) -> torch.Tensor:
        """Return prompts (batch, length), padded on the left, with what is written after each."""
        backbone, tokenizer = self._backbone, self._backbone.tokenizer
        ends = self.ends

        def more(inputs: dict[str, torch.Tensor], size: int) -> list[list[int]]:
            return greedy(
                self._model.module,
                backbone.language_head(),
                inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                stops=ends.known,
                max_new_tokens=size,
            )[0]

        def has_ended(written: list[int]) -> bool:
            text = str(tokenizer.decode(written))
            return any(stop in text for stop in stops if stop)

        prompts = [row[kept].tolist() for row, kept in zip(context, mask.bool(), strict=True)]
        written = write_until(more, prompts, most=most, has_ended=has_ended, pad_id=self._pad_id, device=self.device)
        self._done += len(prompts)
        self._progress.advance(self._done)
        width = max(map(len, written), default=0)
        filled = [ids + [ends.learned] * (width - len(ids)) for ids in written]
        return torch.cat([context, torch.tensor(filled, dtype=context.dtype, device=context.device)], dim=1)

    @property
    def _pad_id(self) -> int:
        return int(self._backbone.tokenizer.pad_token_id)


def language_model(answerer: Answerer, tokenizer: object) -> AskedModel:
    """Return lm-eval's language model of an answerer.

    Raises:
        UnavailableError: lm-eval is not installed.
    """
    hugging_face = part("lm_eval.models.huggingface").HFLM

    class LanguageModel(hugging_face):  # type: ignore[misc, valid-type]
        """The base under some weights; requests are cut and put in order as for a transformers model."""

        @property
        def eot_token_id(self) -> int:
            return answerer.ends.learned

        @property
        def prefix_token_id(self) -> int:
            first = self.tokenizer.bos_token_id
            return self.eot_token_id if first is None else int(first)

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            with answerer.counting("likelihoods", len(requests)):
                return list(super().loglikelihood(requests, disable_tqdm=True))

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            with answerer.counting("documents", len(requests)):
                return list(super().loglikelihood_rolling(requests, disable_tqdm=True))

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            with answerer.counting("answers", len(requests)):
                return list(super().generate_until(requests, disable_tqdm=True))

        def _loglikelihood_tokens(self, requests: list[Any], **_: object) -> list[tuple[float, bool]]:
            return answerer.likelihoods(requests, self.max_length)

        def _model_generate(
            self,
            context: torch.Tensor,
            max_length: int,
            stop: list[str],
            *,
            attention_mask: torch.Tensor,
            **_: object,
        ) -> torch.Tensor:
            return answerer.write(context, attention_mask, stops=stop, most=max_length - context.shape[1])

    model: AskedModel = LanguageModel(
        pretrained=answerer,
        backend="causal",
        tokenizer=tokenizer,
        max_length=answerer.longest,
        batch_size=_ROWS,
    )
    return model
