"""How near a written answer comes to the one that was wanted: scores of two texts, in 0 to 1."""

from __future__ import annotations

import re
import string
from collections import Counter
from functools import cache
from typing import Any

__all__ = ["exact_match", "rouge_l", "token_f1"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def rouge_l(prediction: str, target: str) -> float:
    """F-measure of the longest common subsequence of words, lower-cased, not stemmed (Lin 2004)."""
    return float(_scorer().score(target, prediction)["rougeL"].fmeasure)


def exact_match(prediction: str, target: str) -> bool:
    """Equal once lower-cased, without punctuation and articles (Rajpurkar et al. 2016, arXiv 1606.05250)."""
    return _words(prediction) == _words(target)


def token_f1(prediction: str, target: str) -> float:
    """Harmonic mean of precision and recall over the bag of words, after what `exact_match` leaves out.

    Two empty texts agree; an empty one and another don't (Rajpurkar et al. 2016, and the script of SQuAD 2.0).
    """
    given, wanted = _words(prediction), _words(target)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)
