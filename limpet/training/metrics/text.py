"""How near a written answer comes to the one that was wanted: scores of two texts, in 0 to 1, in every script.

The `former_` ones are those of releases that knew English alone: they read `-12.5` as `125`, and nothing but a to z
and digits as words. What was scored by them keeps its scores.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from limpet.training.metrics.metric import Metric, mean
from limpet.training.metrics.units import PERPLEXITY, SHARE

if TYPE_CHECKING:
    import numpy as np
    import sacrebleu.metrics
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "CHRF",
    "EXACT_MATCH",
    "FORMER",
    "NEG_PERPLEXITY",
    "ROUGE_L",
    "TOKEN_F1",
    "chrf",
    "exact_match",
    "former_exact_match",
    "former_rouge_l",
    "former_token_f1",
    "rouge_l",
    "token_f1",
    "words",
]

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# scripts that put no spaces between words: each character counts as one, as is usual for ROUGE in these languages
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U000323af]"
)


class _WordsAlone(dict[int, int | str]):
    """For `str.translate`: letters, marks and digits stay, all else is a space; filled as characters are met."""

    def __missing__(self, code: int) -> int | str:
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else " "
        return self[code]


_WORDS_ALONE = _WordsAlone()


def words(text: str) -> list[str]:
    """Return a text's words: runs of letters, marks and digits of any script, with case folded.

    A character of a script without spaces between words (Han, Kana, Thai, Lao, Khmer, Burmese) is a word of its own.
    """
    return _parted(unicodedata.normalize("NFC", text.casefold()).translate(_WORDS_ALONE))


def rouge_l(prediction: str, target: str) -> float:
    """F-measure of the longest common subsequence of `words`, not stemmed (Lin 2004).

    Where a text has no word at all (only signs), the texts are compared as they are.
    """
    given, wanted = words(prediction), words(target)
    if not given or not wanted:
        return float(_plain(prediction) == _plain(target))
    return _f_of_common(given, wanted)


def exact_match(prediction: str, target: str) -> bool:
    """Equal without regard to case, punctuation and English articles, after Rajpurkar et al. 2016 (arXiv 1606.05250).

    Unlike there, what makes a number another number stays: its sign, what stands between its digits, and its percent
    sign. Punctuation is that of every script; symbols, such as `+`, `<` or the dollar sign, stay.
    """
    return _answer(prediction) == _answer(target)


def token_f1(prediction: str, target: str) -> float:
    """Harmonic mean of precision and recall over the bag of words, after what `exact_match` leaves out.

    Two empty texts agree; an empty one and another don't (Rajpurkar et al. 2016, and the script of SQuAD 2.0).
    """
    return _overlap(_answer(prediction), _answer(target))


def chrf(prediction: str, target: str) -> float:
    """chrF2 of one text: F-measure of character n-grams up to 6, recall weighing twice (Popović 2015, WMT).

    It is sacrebleu's, divided by 100. It needs no words, so it suits languages that inflect or put no spaces.
    """
    return float(_chrf().sentence_score(prediction, [target]).score) / 100


def former_rouge_l(prediction: str, target: str) -> float:
    """`rouge_l` over words of a to z and digits alone, by which tasks of before release 2 are scored."""
    given, wanted = (_ASCII_WORD.findall(text.lower()) for text in (prediction, target))
    return _f_of_common(given, wanted) if given and wanted else 0.0


def former_exact_match(prediction: str, target: str) -> bool:
    """`exact_match` without any ASCII punctuation, also in numbers: `-12.5` is `125` to it."""
    return _squad(prediction) == _squad(target)


def former_token_f1(prediction: str, target: str) -> float:
    """`token_f1` after what `former_exact_match` leaves out."""
    return _overlap(_squad(prediction), _squad(target))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def _parted(text: str) -> list[str]:
    return _UNSPACED.sub(r" \g<0> ", text).split()


def _answer(text: str) -> list[str]:
    """Return the words that answers are compared by."""
    text = _plain(text).replace("\u2212", "-")
    characters = "".join(character for at, character in enumerate(text) if _stays(text, at))
    # an answer that is nothing but an article, such as "A" of a choice, is an answer
    return _parted(_ARTICLES.sub(" ", characters)) or _parted(characters)


def _stays(text: str, at: int) -> bool:
    character = text[at]
    if not unicodedata.category(character).startswith("P"):
        return True
    before, after = text[max(0, at - 1) : at], text[at + 1 : at + 3]
    if character in "%\u2030":
        return before.isdecimal()
    if before.isdecimal() and after[:1].isdecimal():
        return True
    # what begins a number: `-5`, `.5`, `-.5`, and not the hyphen of `covid-19`
    begins = after[:1].isdecimal() or (character == "-" and after[:1] in (".", ",") and after[1:].isdecimal())
    return character in "-.," and begins and not before.isalnum()


def _squad(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split()


def _overlap(given: Sequence[str], wanted: Sequence[str]) -> float:
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def _f_of_common(given: Sequence[str], wanted: Sequence[str]) -> float:
    common = _longest_common(given, wanted)
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, all words of `a` at once as bits (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << at
    every = (1 << len(a)) - 1
    row = every
    for word in b:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & every
    return len(a) - row.bit_count()


@cache
def _chrf() -> sacrebleu.metrics.CHRF:
    from sacrebleu.metrics import CHRF

    return CHRF()


def _mean_of(measure: Callable[[str, str], float]) -> Callable[[Sequence[str], Sequence[str]], Array]:
    """Return the counts of a measure of two texts: its value for every example."""

    def counts(predictions: Sequence[str], targets: Sequence[str]) -> Array:
        import numpy as np

        return np.array([[measure(*pair) for pair in zip(predictions, targets, strict=True)]], dtype=np.float64)

    return counts


def _likelihoods(predictions: Sequence[Sequence[float]], targets: Sequence[str]) -> Array:
    """Log-likelihood of the target and its tokens: (2, examples)."""
    import numpy as np

    return np.array([list(pair) for pair in predictions], dtype=np.float64).T


def _neg_perplexity(sums: Array, examples: int) -> Array:
    import numpy as np

    perplexity: Array = -np.exp(-sums[..., 0] / sums[..., 1])
    return perplexity


ROUGE_L = Metric(
    "rouge-l-v2",
    "mean F-measure of the longest common subsequence of words with the target, in 0 to 1 (Lin 2004); words are runs "
    "of letters and digits of every script, with case folded, and single characters where a script has no spaces",
    _mean_of(rouge_l),
    mean,
    unit=SHARE,
)
CHRF = Metric(
    "chrf",
    "mean over the examples of chrF2, the F-measure of character n-grams up to 6, by sacrebleu, in 0 to 1 "
    "(Popović 2015)",
    _mean_of(chrf),
    mean,
    unit=SHARE,
)
EXACT_MATCH = Metric(
    "exact-match-v2",
    "share of the answers that are the target without regard to case, punctuation of any script and English "
    "articles, in 0 to 1; numbers keep sign, points and percent (after Rajpurkar et al. 2016)",
    _mean_of(exact_match),
    mean,
    is_correct=exact_match,
    unit=SHARE,
)
TOKEN_F1 = Metric(
    "token-f1-v2",
    "mean harmonic mean of precision and recall over the words of answer and target, after what exact-match-v2 "
    "leaves out, in 0 to 1 (after Rajpurkar et al. 2016)",
    _mean_of(token_f1),
    mean,
    unit=SHARE,
)
FORMER = (
    Metric(
        "rouge-l",
        "mean F-measure of the longest common subsequence of words with the target, lower-cased and not stemmed, in "
        "0 to 1 (Lin 2004); words have letters a to z and digits alone",
        _mean_of(former_rouge_l),
        mean,
        unit=SHARE,
    ),
    Metric(
        "exact-match",
        "share of the answers that are the target once lower-cased, without ASCII punctuation and articles, in 0 to "
        "1 (Rajpurkar et al. 2016)",
        _mean_of(former_exact_match),
        mean,
        is_correct=former_exact_match,
        unit=SHARE,
    ),
    Metric(
        "token-f1",
        "mean harmonic mean of precision and recall over the words of answer and target, after what exact-match "
        "leaves out, in 0 to 1 (Rajpurkar et al. 2016)",
        _mean_of(former_token_f1),
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
