"""Answers for texts of many tasks at once, from one base in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from threading import Lock

import torch

from limpet.errors import UsageError
from limpet.registry import versions
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training.backbone import Backbone
from limpet.training.batches import collate, encode, evaluation_plan
from limpet.training.evaluate import encode_texts, run
from limpet.training.model import backbone_inputs, check_base, pooled
from limpet.training.predict import Prediction, predictions
from limpet.training.serving.shelf import Ready, Shelf
from limpet.training.serving.slots import Layout, Place, SlottedBackbone

__all__ = ["MEMORY", "Answer", "Server"]

MEMORY = 256 * 2**20
"""Bytes of adapters that are kept ready where nothing else is said."""


@dataclass(frozen=True)
class Answer:
    """What a request came to: the version that answered, as `task@3`, and its prediction."""

    version: str
    prediction: Prediction


@dataclass(frozen=True)
class _Row:
    """One text that shares batches with texts of other versions."""

    index: int
    version: VersionRecord
    ids: list[int]


class Server:
    """Answers requests for many versions on one base; `limpet.home.Home.serve` makes one.

    LoRA adapters lie in slots, and texts of different versions pass the base together; so do those of heads without
    an adapter. Versions of other methods answer one after the other, each on modules of its own over the base's
    tensors. The base itself is not touched. Calls from several threads are safe: one waits for the other.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        memory: Bytes that slots of one layout may take, and as many for all that lies in no slot: heads, records, and
            the tensors of other methods. What was used longest ago gives way.
    """

    def __init__(self, store: Store, backbone: Backbone, memory: int = MEMORY) -> None:
        self._store = store
        self._backbone = backbone
        self.shelf = Shelf(store, backbone, memory)
        self.slotted = SlottedBackbone(backbone.model, memory)
        self._lock = Lock()

    def predict(self, requests: Sequence[tuple[str, str]]) -> tuple[Answer, ...]:
        """Answer texts, each with the version that its reference means now.

        Requests for one version alone get the very logits of `Home.predict`. Among others, a text may be padded to
        another length, and its products are computed in other groups: the last digits of its logits may differ.

        Args:
            requests: Pairs of a reference (`task`, `task@3` or `task@alias`) and a text.

        Returns:
            The answers in the order of the requests.

        Raises:
            UsageError: There is no request.
            NotFoundError: There is no such version.
            IntegrityError: A file is corrupt, or a version belongs to another base.
        """
        if not requests:
            raise UsageError("There is no text to classify.", 'limpet predict TASK "some text"')
        texts = [text for _, text in requests]
        answers: dict[int, Answer] = {}
        with self._lock:
            together: list[_Row] = []
            for version, indices in self._resolve(requests):
                ready, chosen = self.shelf.get(version), [texts[index] for index in indices]
                if ready.model is None:
                    ids = encode(self._backbone.tokenizer, chosen, int(version.config["max_length"]))
                    together += [_Row(index, version, row) for index, row in zip(indices, ids, strict=True)]
                else:
                    answers.update(zip(indices, self._answer_alone(ready, chosen), strict=True))
            answers.update(self._answer_together(together, texts))
        return tuple(answers[index] for index in range(len(requests)))

    def _resolve(self, requests: Sequence[tuple[str, str]]) -> list[tuple[VersionRecord, list[int]]]:
        """Return each version that is asked for, with the indices of its requests; aliases may have moved."""
        found: dict[str, VersionRecord] = {}
        indices: dict[str, list[int]] = {}
        for index, (reference, _) in enumerate(requests):
            if reference not in found:
                found[reference] = versions.resolve(self._store, reference)
                check_base(self._backbone, found[reference])
            indices.setdefault(found[reference].digest, []).append(index)
        records = {version.digest: version for version in found.values()}
        return [(records[digest], rows) for digest, rows in indices.items()]

    # one version after the other

    def _answer_alone(self, ready: Ready, texts: Sequence[str]) -> Iterator[Answer]:
        encoded = encode_texts(self._backbone.tokenizer, texts, int(ready.version.config["max_length"]))
        outcome = run(ready.model, ready.head, encoded, self._backbone.model.device)
        return _answers(ready.version, texts, outcome.predictions, outcome.logits)

    # all in one pass

    def _answer_together(self, rows: Sequence[_Row], texts: Sequence[str]) -> Iterator[tuple[int, Answer]]:
        plan = evaluation_plan([len(row.ids) for row in rows])
        for batch, length in zip(plan.batches, plan.lengths, strict=True):
            for part in self._cut([rows[index] for index in batch]):
                yield from self._answer_batch(part, length, texts)

    def _cut(self, rows: Sequence[_Row]) -> Iterator[list[tuple[_Row, Place | None]]]:
        """Put the rows' adapters in place, in as many parts as it takes; rows of one slot stand together."""
        part: list[tuple[_Row, Place | None]] = []
        taken: dict[Layout, set[str]] = {}
        for row in sorted(rows, key=lambda row: row.version.digest):
            lora = self.shelf.get(row.version).lora
            if lora is not None:
                used = taken.setdefault(lora.layout, set())
                if row.version.digest not in used and len(used) == self.slotted.slots(lora.layout).count:
                    yield _ordered(part)
                    part, taken = [], {lora.layout: (used := set())}
                used.add(row.version.digest)
            part.append((row, self.place(row.version)))
        yield _ordered(part)

    def place(self, version: VersionRecord) -> Place | None:
        """Put a version's adapter in place and return where; null if it has none that slots can hold.

        Raises:
            IntegrityError: A file is missing, corrupt, or does not fit this base.
        """
        lora = self.shelf.get(version).lora
        if lora is None:
            return None
        slots = self.slotted.slots(lora.layout)
        return Place(slots, slots.place(version.digest, lora.scale, partial(self.shelf.fill, version)))

    def _answer_batch(
        self, part: Sequence[tuple[_Row, Place | None]], length: int, texts: Sequence[str]
    ) -> Iterator[tuple[int, Answer]]:
        device = self._backbone.model.device
        padded = collate([row.ids for row, _ in part], self._backbone.tokenizer.pad_token_id, length)
        mask = padded["attention_mask"].to(device)
        inputs = backbone_inputs(self.slotted.module.config, padded["input_ids"].to(device), mask)
        with torch.inference_mode():
            output = self.slotted.run([place for _, place in part], **inputs)
        at = 0
        for _, group in groupby((row for row, _ in part), key=lambda row: row.version.digest):
            rows = list(group)
            ready, own = self.shelf.get(rows[0].version), slice(at, at + len(rows))
            with torch.inference_mode():
                logits = ready.head.classify(pooled(ready.head, output, mask, own)).float().cpu()
            chosen = [texts[row.index] for row in rows]
            answers = _answers(ready.version, chosen, ready.head.predict(logits), logits)
            yield from zip((row.index for row in rows), answers, strict=True)
            at += len(rows)


def _answers(version: VersionRecord, texts: Sequence[str], labels: Sequence[int], logits: Tensor) -> Iterator[Answer]:
    return (Answer(version.reference, one) for one in predictions(version, texts, labels, logits))


def _ordered(part: Sequence[tuple[_Row, Place | None]]) -> list[tuple[_Row, Place | None]]:
    """Rows of one slot stand together, and slots of one layout; rows without an adapter come first."""
    return sorted(part, key=lambda item: (id(item[1].slots), item[1].index) if item[1] else (0, 0))
