"""The head of generation: the base's own language-model head, and nothing of the task's but its prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from limpet.errors import UsageError
from limpet.registry.values import BaseRecord, TaskRecord
from limpet.training.base.lm_head import LanguageHead, inner_model, virtual_tokens
from limpet.training.batching.batches import PAD_TO, Writing
from limpet.training.batching.encoded import Encoded, Field, plan_tokens
from limpet.training.batching.examples import Conversation, Example, flat_text
from limpet.training.batching.inference import Outcome, in_batches
from limpet.training.generation import chat_templates
from limpet.training.generation.learned_turns import Lesson, lesson
from limpet.training.generation.prompts import (
    Endings,
    PromptForm,
    check_template,
    encode_answers,
    encode_prompts,
    endings,
    render_prompt,
    shorten,
)
from limpet.training.heads.base import Head, HeadConfig
from limpet.training.heads.protocols import Batch
from limpet.training.metrics.text import NEG_PERPLEXITY

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from limpet.training.base.backbone import Backbone

__all__ = ["GenerationConfig", "GenerationHead", "Written"]

_NOTHING = -100
_READ_AT_ONCE = 64
"""Answers that are read together: every token of each has logits over all words."""
_PROBED = 16
"""Logits of the first word that are kept with an answer: they tell a changed adapter that writes the same words."""


@dataclass(frozen=True)
class Written:
    """The answer for one text: what was written."""

    text: str
    answer: str

    @property
    def shown(self) -> dict[str, Any]:
        """The columns of a table."""
        return {"answer": self.answer}


@dataclass(frozen=True)
class GenerationConfig(HeadConfig):
    """How answers are written: after which prompt, how long at most, and whether targets are scored instead.

    `system` is the system message of what has none itself, `chat_template` takes the place of the base's. `ends` are
    the tokens that end an answer where they are not the base's, first the one that is learned.
    """

    prompt: str = "{text}"
    max_new_tokens: int = 32
    scores_targets: bool = False
    system: str | None = None
    chat_template: str | None = None
    ends: tuple[int, ...] | None = None

    @property
    def form(self) -> PromptForm:
        """What stands around every text."""
        return PromptForm(self.prompt, self.system, self.chat_template)


@dataclass(frozen=True)
class _Bound:
    """What the head takes of the base, in a plain value so that nothing of the base is taken for the head's own."""

    lm_head: LanguageHead
    tokenizer: PreTrainedTokenizerBase
    endings: Endings
    start: int | None
    positions: int | None
    at_once: int | None


class GenerationHead(Head):
    """Hidden states (batch, length, hidden) to logits (batch, target tokens, vocab) in training, and answers."""

    config_class = GenerationConfig
    config: GenerationConfig

    def __init__(self, config: GenerationConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self._base: _Bound | None = None
        self._front: tuple[Any, ...] = ()

    @classmethod
    def configure(cls, task: TaskRecord, base: BaseRecord, train: Sequence[Example]) -> GenerationConfig:
        """See `StoredHead.configure`."""
        options = task.definition.options
        return GenerationConfig(
            type=task.definition.type,
            pooling="none",
            hidden_size=base.hidden_size,
            labels=0,
            dropout=0.0,
            prompt=options["prompt"],
            max_new_tokens=options["max_new_tokens"],
            scores_targets=task.definition.metric == NEG_PERPLEXITY.name,
            system=options.get("system"),
            chat_template=options.get("chat_template"),
        )

    def content(self) -> dict[str, Any]:
        """See `StoredHead.content`; what a head has not is left away, as it was before there was any."""
        lacking = [name for name in ("system", "chat_template", "ends") if getattr(self.config, name) is None]
        return {name: value for name, value in super().content().items() if name not in lacking}

    def bind_base(self, backbone: Backbone) -> None:
        """Take the base's language-model head, tokenizer and the tokens that end a text.

        Raises:
            UsageError: The base has no such head, or no token that ends a text.
        """
        # transformers comes with it, and what answers without writing does without
        from limpet.training.base.backbone import positions
        from limpet.training.generation.written_rows import tokens_at_once

        config = backbone.model.config
        start = config.decoder_start_token_id if config.is_encoder_decoder else None
        lm_head = backbone.language_head()
        own = self.config.ends
        ends = Endings(own[0], frozenset(own)) if own else endings(backbone.tokenizer, config)
        at_once = None if start is not None else tokens_at_once(backbone.model, backbone.evaluation_dtype)
        self._base = _Bound(lm_head, backbone.tokenizer, ends, start, positions(backbone.model), at_once)

    def attach_module(self, module: nn.Module) -> None:
        """See `AnsweringHead.attach_module`: a tied head reads the word embeddings of a copy of the base."""
        self._front = (module,)

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, *, learning: bool
    ) -> Encoded:
        """Turn texts into prompts, and targets into answers where they are read and not written.

        See `TrainableHead.encode`; `max_length` counts the prompt's tokens, template and all.
        """
        known = all(example.target is not None for example in examples)
        if not learning and not (self.config.scores_targets and known):
            room = self._room(max_length, 0 if self.config.scores_targets else self.config.max_new_tokens)
            texts = [example.text for example in examples]
            return self._to_write(encode_prompts(tokenizer, self.config.form, texts, max_length=room))
        if self._bound.start is None and any(isinstance(example.text, Conversation) for example in examples):
            lessons = [self._lesson(tokenizer, example, max_length) for example in examples]
            learned = [one.learned if learning else one.last_answer for one in lessons]
            return self._learned(tokenizer, [one.ids for one in lessons], learned)
        answers = encode_answers(tokenizer, [example.target for example in examples], self._bound.endings.learned)
        prompts = [
            self._prompt_for(tokenizer, example, answer, max_length=max_length)
            for example, answer in zip(examples, answers, strict=True)
        ]
        return self._with_answers(tokenizer, prompts, answers)

    def _prompt_for(
        self, tokenizer: PreTrainedTokenizerBase, example: Example, answer: list[int], *, max_length: int
    ) -> list[int]:
        room = self._room(max_length, len(answer))
        return encode_prompts(tokenizer, self.config.form, [example.text], max_length=room)[0]

    def _lesson(self, tokenizer: PreTrainedTokenizerBase, example: Example, max_length: int) -> Lesson:
        """Return an example with all that is learned of it, cut so that its answer fits whole."""
        ends = self._bound.endings
        if not isinstance(example.text, Conversation):
            [answer] = encode_answers(tokenizer, [example.target], ends.learned)
            prompt = self._prompt_for(tokenizer, example, answer, max_length=max_length)
            whole = [*prompt, *answer]
            return Lesson(whole, list(range(len(prompt), len(whole))), len(prompt))
        form = self.config.form
        whole_lesson = lesson(tokenizer, form, example.text, answer=example.target, ends=ends)
        room = self._room(max_length, len(whole_lesson.ids) - whole_lesson.prompt)
        if whole_lesson.prompt <= room:
            return whole_lesson
        text, _ = shorten(tokenizer, form, example.text, max_length=room)
        # a conversation stays one
        kept = text if isinstance(text, Conversation) else example.text
        return lesson(tokenizer, form, kept, answer=example.target, ends=ends)

    def prompt(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See `AnsweringHead.prompt`."""
        return render_prompt(tokenizer, self.config.form)

    def chat_template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """See `AnsweringHead.chat_template`."""
        return self.config.chat_template or chat_templates.template_of(tokenizer)

    def _to_write(self, prompts: Sequence[list[int]]) -> Encoded:
        writing = Writing(self.config.max_new_tokens, self._bound.at_once)
        return plan_tokens(self._bound.tokenizer, prompts).written(writing)

    def _with_answers(
        self, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], answers: list[list[int]]
    ) -> Encoded:
        start = self._bound.start
        if start is not None:
            targets = Field([torch.tensor(answer) for answer in answers], fill=_NOTHING)
            shifted = [torch.tensor([start, *answer[:-1]]) for answer in answers]
            encoded = replace(plan_tokens(tokenizer, prompts), most=_READ_AT_ONCE)
            # the last token of the padding is never a target's
            return encoded.having(decoder_input_ids=Field(shifted, fill=tokenizer.pad_token_id), targets=targets)
        whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
        learned = [range(len(prompt), len(ids)) for prompt, ids in zip(prompts, whole, strict=True)]
        return self._learned(tokenizer, whole, learned)

    def _learned(
        self, tokenizer: PreTrainedTokenizerBase, ids: list[list[int]], learned: Sequence[Sequence[int]]
    ) -> Encoded:
        """Return token ids of which those at some places are learned."""
        targets = [torch.tensor([row[at] for at in places]) for row, places in zip(ids, learned, strict=True)]
        # the token before gives the probability of the next
        before = [torch.tensor([at - 1 for at in places]) for places in learned]
        encoded = replace(plan_tokens(tokenizer, ids), most=_READ_AT_ONCE)
        return encoded.having(places=Field(before, pointing=True), targets=Field(targets, fill=_NOTHING))

    def _room(self, max_length: int, answer: int) -> int:
        """Return how many tokens a prompt may have, so that the answer has positions left."""
        places = self._bound.positions
        if places is None or self._bound.start is not None:
            return max_length
        # padding takes positions too
        room = min(max_length, (places - virtual_tokens(*self._front)) // PAD_TO * PAD_TO - answer)
        if room < 1:
            raise UsageError(
                f"An answer of {answer} tokens leaves no room for a prompt in the base's {places} positions.",
                f"--max-new-tokens {max(1, places // 4)}",
            )
        return room

    def read(self, hidden: Tensor, pooler_output: Tensor | None, batch: Batch) -> Tensor:
        """Return the hidden states (batch, target tokens, hidden) that the targets are predicted from."""
        if "places" not in batch:
            return hidden
        # virtual tokens stand in front
        hidden = hidden[:, -batch["attention_mask"].shape[1] :]
        return hidden.gather(1, batch["places"].unsqueeze(2).expand(-1, -1, hidden.shape[2]))

    def score(self, features: Tensor) -> Tensor:
        """Return logits (..., vocab) in float32."""
        (front,) = self._front
        logits: Tensor = self._bound.lm_head(features, inner_model(front).get_input_embeddings().weight)
        return logits

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over all target tokens of the batch; prompts are no part of it."""
        return cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=_NOTHING)

    def terms(self, targets: Tensor) -> int:
        """See `TrainableHead.terms`: the tokens of the targets."""
        return int((targets != _NOTHING).sum())

    def answer(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """Return for each example some logits of its first word, and the tokens that were written.

        Where targets are scored: their log-likelihood and how many tokens they have.
        """
        # transformers comes with it, and what answers without writing does without
        from limpet.training.generation.greedy_decoding import greedy

        if "targets" in batch:
            return self._likelihoods(model, batch)
        bound = self._bound
        written, first = greedy(
            model.module,
            bound.lm_head,
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            stops=bound.endings.known,
            max_new_tokens=self.config.max_new_tokens,
        )
        kept = _spread(first)
        return [torch.cat([row, torch.tensor(ids, dtype=row.dtype)]) for row, ids in zip(kept, written, strict=True)]

    def first_pass(self, model: nn.Module, batch: Batch) -> None:
        """See `AnsweringHead.first_pass`: answers of two models may differ in length."""
        # transformers comes with it, and what answers without writing does without
        from limpet.training.generation.greedy_decoding import greedy

        if "targets" in batch:
            self.answer(model, batch)
            return
        ids, mask = batch["input_ids"], batch["attention_mask"]
        greedy(
            model.module,
            self._bound.lm_head,
            ids,
            attention_mask=mask,
            stops=self._bound.endings.known,
            max_new_tokens=1,
        )

    def _likelihoods(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        inputs = dict(batch)
        targets = inputs.pop("targets")
        found = log_softmax(model(**inputs), dim=-1)
        there = targets != _NOTHING
        chosen = found.gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
        sums = (chosen.double() * there).sum(dim=1)
        return list(torch.stack([sums, there.sum(dim=1)], dim=1).float())

    def predict(self, rows: Sequence[Tensor]) -> list[Any]:
        """Return the answers' texts; where targets are scored, log-likelihood and tokens of each."""
        if self.config.scores_targets and all(len(row) == 2 for row in rows):
            return [[float(row[0]), int(row[1])] for row in rows]
        decode = self._bound.tokenizer.decode
        return [decode(row[_PROBED:].long().tolist(), skip_special_tokens=True).strip() for row in rows]

    @property
    def answers_texts(self) -> bool:
        """See `AnsweringHead.answers_texts`: a likelihood of targets is no answer."""
        return not self.config.scores_targets

    def served(
        self, serve: Callable[[Encoded], Outcome], model: nn.Module, texts: Encoded, *, measured: Outcome
    ) -> list[Any]:
        """See `AnsweringHead.served`; only answers that may differ are written again.

        Greedy decoding gives a text where, after all words before it, every word of that text is the most probable.
        So one pass over prompts and answers says whether it would be written, with no need to write it word by word.
        """
        suspects = self._not_written(model, texts, [row[_PROBED:].long().tolist() for row in measured.rows])
        predictions = list(measured.predictions)
        if suspects:
            again = serve(self._to_write([texts.ids[at] for at in suspects]))
            for at, prediction in zip(suspects, again.predictions, strict=True):
                predictions[at] = prediction
        return predictions

    def _not_written(self, model: nn.Module, texts: Encoded, written: Sequence[list[int]]) -> list[int]:
        """Return the texts after which a model in float32 would not write these token ids."""
        bound, limit = self._bound, self.config.max_new_tokens
        ended = [ids if len(ids) >= limit else [*ids, bound.endings.learned] for ids in written]
        whole = self._with_answers(bound.tokenizer, list(texts.ids), ended)
        stops = torch.tensor(sorted(bound.endings.known))
        found: list[int] = []
        with torch.inference_mode():
            for indices, batch in in_batches(whole, next(model.parameters()).device):
                targets = batch.pop("targets").cpu()
                chosen = model(**batch).argmax(dim=-1).cpu()
                # any token that ends an answer ends it
                both_end = torch.isin(chosen, stops) & (targets == bound.endings.learned)
                right = ((chosen == targets) | both_end | (targets == _NOTHING)).all(dim=1)
                found += [index for index, same in zip(indices, right.tolist(), strict=True) if not same]
        return sorted(found)

    def explain(self, example: Example, prediction: str, row: Tensor, *, labels: tuple[str, ...]) -> Written:
        """See `AnsweringHead.explain`."""
        return Written(flat_text(example.text), prediction)

    def summary(self, row: Tensor) -> list[float]:
        """See `AnsweringHead.summary`: some logits of the first word."""
        numbers: list[float] = row[:_PROBED].tolist()
        return numbers

    def tensors(self) -> dict[str, Tensor]:
        """There are none."""
        return {}

    @classmethod
    def restore(cls, content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GenerationHead:
        """See `StoredHead.restore`.

        Raises:
            TypeError: The content is not this head's configuration.
            UsageError: A text does not fit into the prompt.
            ValueError: The longest answer is no count of tokens.
        """
        config = GenerationConfig(**content)
        check_template(config.prompt)
        if config.chat_template is not None:
            chat_templates.check_chat_template(config.chat_template)
        if not isinstance(config.system, str | None):
            raise TypeError("its system message is no text")
        if type(config.max_new_tokens) is not int or config.max_new_tokens < 1:
            raise ValueError(f"its longest answer is {config.max_new_tokens!r} tokens")
        if config.ends is None:
            return cls(config)
        if not config.ends or not all(type(token) is int and token >= 0 for token in config.ends):
            raise ValueError(f"its answers end with {config.ends!r}, which are no tokens")
        return cls(replace(config, ends=tuple(config.ends)))

    @property
    def _bound(self) -> _Bound:
        if self._base is None:
            raise RuntimeError("the head was not bound to a base")
        return self._base


def _spread(logits: Tensor) -> Tensor:
    """Return some of the logits (batch, vocab), the same ones for every base of that size: (batch, `_PROBED`)."""
    words = logits.shape[-1]
    chosen = torch.arange(_PROBED, device=logits.device) * words // _PROBED
    return logits[:, chosen].cpu()
