"""Generation: a text to be written for each text, such as the headline of an article."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from limpet.errors import DataError, UsageError
from limpet.training.generation.prompts import PLACE, check_template, default_template, encode_answers, encode_prompts
from limpet.training.metrics.metric import Metric, mean
from limpet.training.metrics.units import PERPLEXITY, SHARE
from limpet.training.task_types import TaskType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limpet.training.heads import Head

    Array = NDArray[np.float64]

__all__ = ["DEFAULT_MAX_NEW_TOKENS", "NEG_PERPLEXITY", "TASK_TYPE", "Generation"]

DEFAULT_MAX_NEW_TOKENS = 32
"""How many tokens an answer has at most, where neither the task nor its targets need more."""
_ENDLESS = 2**31
_ASKING = ("instruction+input", "instruction", "prompt")
"""Columns that say what is asked for: their texts need no instruction in front."""


def _mean_of(measure: str) -> Callable[[Sequence[str], Sequence[str]], Array]:
    """Return the counts of a function of `text_metrics`: its value for every example."""

    def counts(predictions: Sequence[str], targets: Sequence[str]) -> Array:
        import numpy as np

        from limpet.training.metrics import text

        of_two = getattr(text, measure)
        return np.array([[of_two(*pair) for pair in zip(predictions, targets, strict=True)]], dtype=np.float64)

    return counts


def _matches(prediction: str, target: str) -> bool:
    from limpet.training.metrics.text import exact_match

    return exact_match(prediction, target)


def _formerly_matches(prediction: str, target: str) -> bool:
    from limpet.training.metrics.text import former_exact_match

    return former_exact_match(prediction, target)


def _likelihoods(predictions: Sequence[Sequence[float]], targets: Sequence[str]) -> Array:
    """Log-likelihood of the target and its tokens: (2, examples)."""
    import numpy as np

    return np.array([list(pair) for pair in predictions], dtype=np.float64).T


def _neg_perplexity(sums: Array, examples: int) -> Array:
    import numpy as np

    found: Array = -np.exp(-sums[..., 0] / sums[..., 1])
    return found


ROUGE_L = Metric(
    "rouge-l-v2",
    "mean F-measure of the longest common subsequence of words with the target, in 0 to 1 (Lin 2004); words are runs "
    "of letters and digits of every script, with case folded, and single characters where a script has no spaces",
    _mean_of("rouge_l"),
    mean,
    unit=SHARE,
)
CHRF = Metric(
    "chrf",
    "mean over the examples of chrF2, the F-measure of character n-grams up to 6, by sacrebleu, in 0 to 1 "
    "(Popović 2015)",
    _mean_of("chrf"),
    mean,
    unit=SHARE,
)
EXACT_MATCH = Metric(
    "exact-match-v2",
    "share of the answers that are the target without regard to case, punctuation of any script and English "
    "articles, in 0 to 1; numbers keep sign, points and percent (after Rajpurkar et al. 2016)",
    _mean_of("exact_match"),
    mean,
    is_correct=_matches,
    unit=SHARE,
)
TOKEN_F1 = Metric(
    "token-f1-v2",
    "mean harmonic mean of precision and recall over the words of answer and target, after what exact-match-v2 "
    "leaves out, in 0 to 1 (after Rajpurkar et al. 2016)",
    _mean_of("token_f1"),
    mean,
    unit=SHARE,
)
FORMER = (
    Metric(
        "rouge-l",
        "mean F-measure of the longest common subsequence of words with the target, lower-cased and not stemmed, in "
        "0 to 1 (Lin 2004); words have letters a to z and digits alone",
        _mean_of("former_rouge_l"),
        mean,
        unit=SHARE,
    ),
    Metric(
        "exact-match",
        "share of the answers that are the target once lower-cased, without ASCII punctuation and articles, in 0 to "
        "1 (Rajpurkar et al. 2016)",
        _mean_of("former_exact_match"),
        mean,
        is_correct=_formerly_matches,
        unit=SHARE,
    ),
    Metric(
        "token-f1",
        "mean harmonic mean of precision and recall over the words of answer and target, after what exact-match "
        "leaves out, in 0 to 1 (Rajpurkar et al. 2016)",
        _mean_of("former_token_f1"),
        mean,
        unit=SHARE,
    ),
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
    metrics = (ROUGE_L, EXACT_MATCH, TOKEN_F1, CHRF, NEG_PERPLEXITY)
    former_metrics = FORMER
    text_columns = (
        "instruction+input",
        "body",
        "document",
        "article",
        "source",
        "question",
        "input",
        "text",
        "content",
        "instruction",
        "prompt",
    )
    target_columns = (
        "headline",
        "summary",
        "highlights",
        "title",
        "answer",
        "output",
        "target",
        "completion",
        "response",
    )
    key = "target"

    @property
    def head(self) -> type[Head]:
        """See `TaskType.head`."""
        from limpet.training.heads.generation import GenerationHead

        return GenerationHead

    def options(self, given: Mapping[str, Any], text_column: str, target_column: str) -> dict[str, Any]:
        """Return prompt and longest answer; see `TaskType.options`."""
        limit = given.get("max_new_tokens")
        limit = DEFAULT_MAX_NEW_TOKENS if limit is None else limit
        if limit < 1:
            raise UsageError(f"--max-new-tokens is {limit}, and it must be 1 or more.", "--max-new-tokens 32")
        prompt = given.get("prompt")
        if prompt is None:
            prompt = PLACE if text_column in _ASKING else default_template(target_column)
        return {"prompt": check_template(prompt), "max_new_tokens": limit}

    def text_lengths(self, tokenizer: Any, texts: Sequence[str], options: Mapping[str, Any]) -> list[int]:
        """See `TaskType.text_lengths`: the tokens of whole prompts."""
        return [len(ids) for ids in encode_prompts(tokenizer, options["prompt"], texts, max_length=_ENDLESS)]

    def target_lengths(self, tokenizer: Any, targets: Sequence[str]) -> list[int]:
        """See `TaskType.target_lengths`; what ends an answer is not counted."""
        return [len(ids) - 1 for ids in encode_answers(tokenizer, targets, 0)]

    def read(self, cell: Any) -> str | None:
        """See `TaskType.read`."""
        if cell is None:
            return None
        if not isinstance(cell, str):
            raise DataError(f"A target is a {type(cell).__name__}, not a text.", "--target COL")
        return cell.strip() or None


TASK_TYPE = Generation()
