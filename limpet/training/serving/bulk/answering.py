"""A version that answers chunk after chunk of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from limpet.registry.formats.json_values import JsonValue
from limpet.registry.store import Store
from limpet.registry.values import TaskRecord, VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.batching.batches import texts_in_batch
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.examples import Example, Text
from limpet.training.batching.token_cache import seen_once
from limpet.training.evaluation.predict_split import AttachedModel
from limpet.training.evaluation.quick_answers import Manner, Screening, answer_quickly
from limpet.training.heads import AnsweringHead
from limpet.training.model.task_model import active, version_files
from limpet.training.progress import Progress
from limpet.training.serving.bulk.columns import TextColumn
from limpet.training.serving.bulk.row_chunks import Chunk
from limpet.training.serving.bulk.tally import Tally
from limpet.training.task_types import AnswerForm, TaskType, task_type

__all__ = ["AnsweredChunk", "BulkModel", "open_model"]

_BATCHES = 16
"""Batches that are read together: texts of similar length share a batch."""
_BROKEN = "fewer cells than the header"


@dataclass(frozen=True)
class AnsweredChunk:
    """The cells of each row's answer, null where it has none; and what is known then."""

    cells: Sequence[Sequence[JsonValue] | None]
    tally: Tally
    screening: Screening


@dataclass(frozen=True)
class BulkModel:
    """A version that is attached to the base, and how it is asked."""

    attached: AttachedModel
    task: TaskRecord
    version: VersionRecord
    form: AnswerForm
    manner: Manner

    @property
    def kind(self) -> TaskType[Any]:
        """The type of the task."""
        return task_type(self.task.definition.type)

    @property
    def rows_at_once(self) -> int:
        """How many rows are read, answered and written together."""
        texts = self.manner.batch_size or texts_in_batch(self.attached.backbone.device.type)
        # whoever writes takes long for each
        return texts if self._has_prompt else _BATCHES * texts

    @property
    def _has_prompt(self) -> bool:
        head: AnsweringHead = self.attached.model.head
        return head.prompt(self.attached.backbone.tokenizer) is not None

    def answer(
        self, chunk: Chunk, column: TextColumn, *, tally: Tally, screening: Screening, progress: Progress
    ) -> AnsweredChunk:
        """Answer the texts of some rows; equal ones once.

        Args:
            chunk: The rows.
            column: Where their texts are.
            tally: What became of the rows before.
            screening: What is known from the texts before.
            progress: Receives every batch, as so many rows.
        """
        texts, reasons = self._texts(chunk, column)
        unique = list(dict.fromkeys(text for text in texts if text is not None))
        cells_of: dict[Text, tuple[JsonValue, ...]] = {}
        in_float32, cut = 0, frozenset[Text]()
        if unique:
            model, tokenizer = self.attached.model, self.attached.backbone.tokenizer
            examples = [Example(text) for text in unique]
            with seen_once():
                encoded = model.encode(tokenizer, examples, self._max_length)
            answers = answer_quickly(self.attached, encoded, self.manner, screening=screening, progress=progress)
            screening, in_float32 = answers.screening, answers.in_float32
            head: AnsweringHead = model.head
            for example, prediction, row in zip(examples, answers.predictions, answers.rows, strict=True):
                answer = head.explain(example, prediction, row, labels=self.version.labels)
                cells_of[example.text] = self.kind.answer_cells(answer, self.version.labels, self.form)
            cut = self._cut(unique, encoded)
        cells = [None if text is None else cells_of[text] for text in texts]
        more = tally.with_rows(
            reasons,
            abstained=sum(row is not None and row[0] is None for row in cells),
            cut=sum(text in cut for text in texts if text is not None),
            in_float32=in_float32,
        )
        return AnsweredChunk(cells, more, screening)

    @property
    def _max_length(self) -> int:
        return int(self.version.config["max_length"])

    def _texts(self, chunk: Chunk, column: TextColumn) -> tuple[list[Text | None], list[str]]:
        """Return each row's text, and why where there is none."""
        texts, reasons = [], []
        for at, row in enumerate(chunk.rows):
            text, reason = (None, _BROKEN) if at in chunk.broken else column.read(row)
            texts.append(text)
            reasons.append(reason)
        return texts, reasons

    def _cut(self, texts: Sequence[Text], encoded: Encoded) -> frozenset[Text]:
        """Return the texts that have more tokens than were read of them."""
        # what has fewer tokens than there may be is whole; a prompt leaves less room than that
        long = [
            (text, length)
            for text, length in zip(texts, encoded.lengths, strict=True)
            if self._has_prompt or length >= self._max_length
        ]
        whole = self.kind.text_lengths(
            self.attached.backbone.tokenizer, [text for text, _ in long], self.task.definition.options
        )
        return frozenset(text for (text, read), length in zip(long, whole, strict=True) if length > read)


@contextmanager
def open_model(
    store: Store,
    backbone: Backbone,
    version: VersionRecord,
    *,
    task: TaskRecord,
    form: AnswerForm,
    batch_size: int | None,
) -> Iterator[BulkModel]:
    """Put a version on the base for the length of a `with` block.

    Raises:
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    files = version_files(store, backbone, version)
    manner = Manner(form.probabilities, form.threshold, batch_size)
    with active(backbone, version.method, files, head=files) as model:
        attached = AttachedModel(backbone, methods.get(version.method), model)
        yield BulkModel(attached, task, version, form, manner)
