"""Answers for texts of many tasks at once, from one base in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limpet.errors import UsageError
from limpet.registry import versions
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.base.precision import autocast
from limpet.training.batching.batches import evaluation_plan, on_device
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.examples import Example
from limpet.training.evaluation.predict_split import AttachedModel
from limpet.training.evaluation.predict_texts import Answer
from limpet.training.evaluation.served import serve
from limpet.training.heads import AnsweringHead
from limpet.training.model.task_model import TaskModel, backbone_inputs, check_base
from limpet.training.serving.adapter_cache import AdapterCache, LoadedVersion
from limpet.training.serving.lora_file import LoraFile
from limpet.training.serving.lora_slots import CacheSlot, SlottedBackbone

if TYPE_CHECKING:
    from transformers import PreTrainedConfig
    from transformers.utils import ModelOutput

__all__ = ["MEMORY", "Served", "Server"]

MEMORY = 256 * 2**20
"""Bytes of adapters that are kept loaded where nothing else is said."""

Request = tuple[str, str | Sequence[str]]


@dataclass(frozen=True)
class Served:
    """What a request came to: the version that answered, as `task@3`, and its answer."""

    version: str
    answer: Answer


@dataclass(frozen=True)
class _Texts:
    """The texts of one version in a request: where they stand in it, and how they are encoded."""

    version: VersionRecord
    indices: Sequence[int]
    examples: Sequence[Example]
    encoded: Encoded


@dataclass(frozen=True)
class _Row:
    """One of a version's texts, by its number among them."""

    texts: _Texts
    number: int


class Server:
    """Answers requests for many versions on one base; `limpet.home.Home.serve` makes one.

    LoRA adapters lie in slots, and texts of different versions pass the base together; so do those of heads without
    an adapter. Versions of other methods answer one after the other, each on modules of its own over the base's
    tensors. The base itself is not touched. Calls from several threads are safe: one waits for the other.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        memory: Bytes that all slots together may take, and as many for all that lies in no slot: heads, records, and
            the tensors of other methods. What was used longest ago gives way; there is room for one in any case.
    """

    def __init__(self, store: Store, backbone: Backbone, memory: int = MEMORY) -> None:
        self._store = store
        self._backbone = backbone
        self.adapter_cache = AdapterCache(store, backbone, memory)
        self.slotted = SlottedBackbone(backbone.model, memory)
        self._lock = Lock()

    def predict(self, requests: Sequence[Request]) -> tuple[Served, ...]:
        """Answer texts, each with the version that its reference means now.

        Requests for one version alone get the very answers of `Home.predict`. Among others, a text may be padded to
        another length, and its products are computed in other groups: the last digits of its outputs may differ.

        Args:
            requests: Pairs of a reference (`task`, `task@3` or `task@alias`) and a text.

        Returns:
            The answers in the order of the requests.

        Raises:
            UsageError: There is no request.
            NotFoundError: There is no such version.
            DataError: A text is not of its task's form.
            IntegrityError: A file is corrupt, or a version belongs to another base.
        """
        if not requests:
            raise UsageError("There is no text to answer.", 'limpet predict TASK "some text"')
        served: dict[int, Served] = {}
        with self._lock:
            together: list[_Row] = []
            for version, indices in self._resolve(requests):
                loaded = self.adapter_cache.get(version)
                texts = self._encode(version, loaded, indices, texts=[requests[index][1] for index in indices])
                if loaded.shares_batches:
                    together += [_Row(texts, number) for number in range(len(indices))]
                else:
                    attached = AttachedModel(self._backbone, methods.get(version.method), loaded.model)
                    outcome = serve(attached, texts.encoded)
                    served.update(
                        _explained(
                            loaded, texts, range(len(indices)), predictions=outcome.predictions, outputs=outcome.rows
                        )
                    )
            served.update(self._answer_together(together))
        return tuple(served[index] for index in range(len(requests)))

    def put(self, version: VersionRecord) -> CacheSlot | None:
        """Put a version's adapter in a slot and return where; null if it has none that slots can hold.

        Raises:
            IntegrityError: A file is missing, corrupt, or does not fit this base.
        """
        lora = self.adapter_cache.get(version).lora
        return self._put(version, lora) if lora else None

    def _put(self, version: VersionRecord, lora: LoraFile, staying: Set[str] = frozenset()) -> CacheSlot | None:
        """Put an adapter in a slot; null if there is no room beside those that stay."""
        copy_into = partial(self.adapter_cache.copy_into, version)
        return self.slotted.put(version.digest, lora.layout, lora.scale, copy_into=copy_into, staying=staying)

    def _resolve(self, requests: Sequence[Request]) -> list[tuple[VersionRecord, list[int]]]:
        """Return each version that is asked for, with the indices of its requests; aliases may have moved."""
        found: dict[str, VersionRecord] = {}
        indices: dict[str, list[int]] = {}
        for index, (reference, _) in enumerate(requests):
            if reference not in found:
                found[reference] = versions.resolve(self._store, reference)
                check_base(self._backbone, found[reference])
            indices.setdefault(found[reference].reference, []).append(index)
        records = {version.reference: version for version in found.values()}
        return [(records[reference], rows) for reference, rows in indices.items()]

    def _encode(
        self,
        version: VersionRecord,
        loaded: LoadedVersion,
        indices: Sequence[int],
        *,
        texts: Sequence[str | Sequence[str]],
    ) -> _Texts:
        examples = [Example(loaded.kind.read_input(text)) for text in texts]
        encoded = loaded.model.encode(self._backbone.tokenizer, examples, int(version.config["max_length"]))
        return _Texts(version, indices, examples, encoded)

    # all in one pass

    def _answer_together(self, rows: Sequence[_Row]) -> Iterator[tuple[int, Served]]:
        lengths = [len(row.texts.encoded.ids[row.number]) for row in rows]
        plan = evaluation_plan(lengths, device=self._backbone.device.type)
        for batch, length in zip(plan.batches, plan.lengths, strict=True):
            for part in self._cut([rows[index] for index in batch]):
                yield from self._answer_batch(part, length)

    def _cut(self, rows: Sequence[_Row]) -> Iterator[list[tuple[_Row, CacheSlot | None]]]:
        """Put the rows' adapters in a slot, in as many parts as it takes; rows of one slot stand together."""
        part: list[tuple[_Row, CacheSlot | None]] = []
        staying: set[str] = set()
        # by their references too: the same bytes may have two numbers
        for row in sorted(rows, key=lambda row: (row.texts.version.digest, row.texts.version.reference)):
            version, cache_slot = row.texts.version, None
            if lora := self.adapter_cache.get(version).lora:
                cache_slot = self._put(version, lora, staying)
                if cache_slot is None:
                    yield _ordered(part)
                    part, staying = [], set()
                    cache_slot = self._put(version, lora)
                staying.add(version.digest)
            part.append((row, cache_slot))
        yield _ordered(part)

    def _answer_batch(
        self, part: Sequence[tuple[_Row, CacheSlot | None]], length: int
    ) -> Iterator[tuple[int, Served]]:
        device, groups = self._backbone.device, []
        for _, same in groupby((row for row, _ in part), key=lambda row: row.texts.version.reference):
            rows = list(same)
            texts, numbers = rows[0].texts, [row.number for row in rows]
            batch = on_device(texts.encoded.batch(numbers, length), device)
            groups.append((texts, numbers, batch))
        config = self.slotted.module.config
        whole = {name: torch.cat([batch[name] for _, _, batch in groups]) for name in ("input_ids", "attention_mask")}
        dtype = self._backbone.served_dtype
        with torch.inference_mode(), autocast(device, dtype):
            output = self.slotted.run([cache_slot for _, cache_slot in part], **backbone_inputs(config, whole))
        at = 0
        for texts, numbers, batch in groups:
            loaded = self.adapter_cache.get(texts.version)
            given = _Given(config, _rows_of(output, slice(at, at + len(numbers))))
            at += len(numbers)
            with torch.inference_mode(), autocast(device, dtype):
                answers = TaskModel(given, loaded.model.head, frozenset()).eval().answer(batch)
            outputs = [answer.cpu().contiguous() for answer in answers]
            yield from _explained(loaded, texts, numbers, predictions=loaded.model.predict(outputs), outputs=outputs)


class _Given(nn.Module):
    """Stands for a backbone whose output is known: a head reads its rows as it would read a batch of its own."""

    def __init__(self, config: PreTrainedConfig, output: ModelOutput) -> None:
        super().__init__()
        self.config = config
        self._output = output

    def forward(self, **_: Tensor) -> ModelOutput:
        """Return the output."""
        return self._output


def _rows_of(output: ModelOutput, rows: slice) -> ModelOutput:
    pooled = getattr(output, "pooler_output", None)
    return SimpleNamespace(
        last_hidden_state=output.last_hidden_state[rows], pooler_output=None if pooled is None else pooled[rows]
    )


def _explained(
    loaded: LoadedVersion,
    texts: _Texts,
    numbers: Sequence[int],
    *,
    predictions: Sequence[Any],
    outputs: Sequence[Tensor],
) -> Iterator[tuple[int, Served]]:
    """Yield what some of a version's texts came to, each with its index in the request."""
    for number, prediction, row in zip(numbers, predictions, outputs, strict=True):
        head: AnsweringHead = loaded.model.head
        answer = head.explain(texts.examples[number], prediction, row, labels=texts.version.labels)
        yield texts.indices[number], Served(texts.version.reference, answer)


def _ordered(part: Sequence[tuple[_Row, CacheSlot | None]]) -> list[tuple[_Row, CacheSlot | None]]:
    """Rows of one slot stand together, and slots of one layout; rows without an adapter come first."""
    return sorted(part, key=lambda item: (id(item[1].slots), item[1].index) if item[1] else (0, 0))
