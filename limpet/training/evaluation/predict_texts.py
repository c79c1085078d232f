"""Answers of a version for new texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from limpet.errors import UsageError
from limpet.registry.records import tasks
from limpet.registry.store import Store
from limpet.registry.values import VersionRecord
from limpet.training import methods
from limpet.training.base.backbone import Backbone
from limpet.training.batching.examples import Example
from limpet.training.evaluation.predict_split import AttachedModel
from limpet.training.evaluation.served import serve
from limpet.training.heads import AnsweringHead
from limpet.training.heads.classification import Prediction
from limpet.training.model.task_model import active, version_files
from limpet.training.task_types import task_type

__all__ = ["Answer", "Prediction", "predict"]


class Answer(Protocol):
    """The answer for one text; every type of task has one of its own, a frozen dataclass."""

    @property
    def shown(self) -> Mapping[str, Any]:
        """What a table shows of it, by column."""


def predict(
    store: Store, backbone: Backbone, version: VersionRecord, *, texts: Sequence[str | Sequence[str]]
) -> tuple[Any, ...]:
    """Answer `texts` with a version, in the dtype that the base's answers go out in.

    Args:
        store: The home's registry.
        backbone: The base in memory.
        version: The version.
        texts: Texts as the task has them; where those are words, a text is split at its blanks.

    Returns:
        An `Answer` for each text: of a classification task, a `Prediction`.

    Raises:
        UsageError: There is no text, or a text of words has none.
        DataError: A text is not of the task's form.
        IntegrityError: A file is corrupt, or the version belongs to another base.
    """
    if not texts:
        raise UsageError("There is no text to answer.", f'limpet predict {version.task} "some text"')
    kind = task_type(tasks.get(store, version.task).definition.type)
    examples = [Example(kind.read_input(text)) for text in texts]
    files = version_files(store, backbone, version)
    with active(backbone, version.method, files, head=files) as model:
        encoded = model.encode(backbone.tokenizer, examples, int(version.config["max_length"]))
        outcome = serve(AttachedModel(backbone, methods.get(version.method), model), encoded)
        head: AnsweringHead = model.head
        return tuple(
            head.explain(example, prediction, row, labels=version.labels)
            for example, prediction, row in zip(examples, outcome.predictions, outcome.rows, strict=True)
        )
