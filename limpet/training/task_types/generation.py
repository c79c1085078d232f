"""Generation: a text to be written for each text, such as the headline of an article."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limpet.errors import DataError, UsageError
from limpet.training.prompts import check_template, default_template
from limpet.training.scoring import Metric, mean
from limpet.training.task_types import TaskType
from limpet.training.units import PERPLEXITY, SHARE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limpet.training.heads import Head

    Array = NDArray[np.float64]

__all__ = ["DEFAULT_MAX_NEW_TOKENS", "NEG_PERPLEXITY", "TASK_TYPE", "Generation"]

DEFAULT_MAX_NEW_TOKENS = 32
"""How many tokens an answer has at most, where the task does not say."""


def _rouge_l(predictions: Sequence[str], targets: Sequence[str]) -> Array:
    from limpet.training.text_metrics import rouge_l

    return _one_channel(rouge_l(*pair) for pair in zip(predictions, targets, strict=True))


def _exact_match(predictions: Sequence[str], targets: Sequence[str]) -> Array:
    return _one_channel(map(_matches, predictions, targets))


def _matches(prediction: str, target: str) -> bool:
    from limpet.training.text_metrics import exact_match

    return exact_match(prediction, target)


def _token_f1(predictions: Sequence[str], targets: Sequence[str]) -> Array:
    from limpet.training.text_metrics import token_f1

    return _one_channel(token_f1(*pair) for pair in zip(predictions, targets, strict=True))


def _one_channel(values: Any) -> Array:
    import numpy as np

    return np.array([list(values)], dtype=np.float64)


def _likelihoods(predictions: Sequence[Sequence[float]], targets: Sequence[str]) -> Array:
    """Log-likelihood of the target and its tokens: (2, examples)."""
    import numpy as np

    return np.array([list(pair) for pair in predictions], dtype=np.float64).T


def _neg_perplexity(sums: Array, examples: int) -> Array:
    import numpy as np

    found: Array = -np.exp(-sums[..., 0] / sums[..., 1])
    return found


ROUGE_L = Metric(
    "rouge-l",
    "mean F-measure of the longest common subsequence of words with the target, lower-cased and not stemmed, in "
    "0 to 1 (Lin 2004)",
    _rouge_l,
    mean,
    unit=SHARE,
)
EXACT_MATCH = Metric(
    "exact-match",
    "share of the answers that are the target once lower-cased, without punctuation and articles, in 0 to 1 "
    "(Rajpurkar et al. 2016)",
    _exact_match,
    mean,
    right=_matches,
    unit=SHARE,
)
TOKEN_F1 = Metric(
    "token-f1",
    "mean harmonic mean of precision and recall over the words of answer and target, after what exact-match leaves "
    "out, in 0 to 1 (Rajpurkar et al. 2016)",
    _token_f1,
    mean,
    unit=SHARE,
)
NEG_PERPLEXITY = Metric(
    "neg-perplexity",
    "negated perplexity of the targets: -exp of the mean negative log-likelihood of all their tokens, end of text "
    "included; below -1",
    _likelihoods,
    _neg_perplexity,
    unit=PERPLEXITY,
)


class Generation(TaskType):
    """A target is a text. What is asked for stands in the task's prompt."""

    name = "generation"
    summary = "a text written for each text"
    metrics = (ROUGE_L, EXACT_MATCH, TOKEN_F1, NEG_PERPLEXITY)
    text_columns = ("body", "document", "article", "source", "question", "input", "text", "content")
    target_columns = ("headline", "summary", "highlights", "title", "answer", "output", "target")
    key = "target"

    @property
    def head(self) -> type[Head]:
        """See `TaskType.head`."""
        from limpet.training.heads.generation import GenerationHead

        return GenerationHead

    def options(self, given: Mapping[str, Any], target_column: str) -> dict[str, Any]:
        """Return prompt and longest answer; see `TaskType.options`."""
        limit = given.get("max_new_tokens")
        limit = DEFAULT_MAX_NEW_TOKENS if limit is None else limit
        if limit < 1:
            raise UsageError(f"--max-new-tokens is {limit}, and it must be 1 or more.", "--max-new-tokens 32")
        prompt = given.get("prompt")
        prompt = default_template(target_column) if prompt is None else check_template(prompt)
        return {"prompt": prompt, "max_new_tokens": limit}

    def read(self, cell: Any) -> str | None:
        """See `TaskType.read`."""
        if cell is None:
            return None
        if not isinstance(cell, str):
            raise DataError(f"A target is a {type(cell).__name__}, not a text.", "--target COL")
        return cell.strip() or None


TASK_TYPE = Generation()
