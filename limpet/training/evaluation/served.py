"""Is what is served what was measured? The answers that go out, held against those that a score was made of.

Of a base whose weights are stored in float32, answers go out in float32, from the adapter beside the base's own
weights (`predict`, servers; see `serve`). A score may be made in bfloat16, from weights with the adapter merged in,
because that is several times as fast. Where two labels are nearly as good, the two can differ; so both are computed
when a version is made, and compared. Of a base whose weights are stored in fewer bits, answers go out as they are
measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from limpet.registry.formats.json_values import JsonObject
from limpet.training.batching.encoded import Encoded
from limpet.training.batching.inference import Outcome, run_batches
from limpet.training.evaluation.predict_split import AttachedModel, feature_path
from limpet.training.heads import AnsweringHead
from limpet.training.model import feature_cache
from limpet.training.model.fast_paths import fast_paths
from limpet.training.progress import SILENT, Progress

__all__ = ["Agreement", "OtherAnswer", "agreement", "serve"]


@dataclass(frozen=True)
class OtherAnswer:
    """An example of the evaluation split, by its place, that is answered otherwise where it is served."""

    example: int
    measured: object
    served: object


@dataclass(frozen=True)
class Agreement:
    """On how many of the examples the served answer is the measured one, and where it is not."""

    examples: int
    differing: tuple[OtherAnswer, ...]
    dtype: str = "float32"

    @property
    def share(self) -> float:
        """`served_agreement`."""
        return 1 - len(self.differing) / self.examples

    def content(self) -> JsonObject:
        """Return it as it is kept with an evaluation."""
        return {
            "dtype": self.dtype,
            "agreement": self.share,
            "differing": [asdict(answer) for answer in self.differing],
        }


def serve(attached: AttachedModel, texts: Encoded, *, progress: Progress = SILENT) -> Outcome:
    """Return the answers that go out, in the base's served dtype: in float32, every layer as it is."""
    backbone, model, dtype = attached.backbone, attached.model, attached.backbone.served_dtype
    disable = ("quick-layers",) if dtype == "float32" else ()
    with fast_paths(attached.method, model.module, dtype, disable=disable):
        return run_batches(model, texts, backbone.device, progress=progress, name="answer", dtype=dtype)


def agreement(
    attached: AttachedModel,
    texts: Encoded,
    *,
    outcome: Outcome,
    progress: Progress = SILENT,
) -> Agreement | None:
    """Hold the answers that a version would send out against those that were measured.

    Where evaluations are in the served dtype, they are the served answers, bit by bit, and nothing is computed again.

    Args:
        attached: The version on the base.
        texts: What was evaluated.
        outcome: What the evaluation gave.
        progress: Receives every batch.

    Returns:
        Null where nothing that could be served was measured: targets were scored, and no answer was written.
    """
    backbone, model = attached.backbone, attached.model
    head: AnsweringHead = model.head
    if not head.answers_texts:
        return None
    examples = len(outcome.predictions)
    dtype = backbone.served_dtype
    if backbone.evaluation_dtype == dtype:
        return Agreement(examples, (), dtype)

    def answer(some: Encoded) -> Outcome:
        # the base's own features are the same bits whichever head reads them, and computed once
        path = feature_path(attached, some, dtype)
        if path is None:
            return serve(attached, some, progress=progress)
        return feature_cache.answer(model, some, attached.backbone.device, path=path, progress=progress, dtype=dtype)

    served = head.served(answer, model, texts, measured=outcome)
    differing = tuple(
        OtherAnswer(at, before, now)
        for at, (before, now) in enumerate(zip(outcome.predictions, served, strict=True))
        if not head.same_answer(before, now)
    )
    return Agreement(examples, differing, dtype)
