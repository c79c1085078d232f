"""Which labels may be another one that was misspelt: `techincal` beside `technical`.

Four in five misspellings are one letter too many, too few or wrong, or two letters exchanged (Damerau 1964, "A
technique for computer detection and correction of spelling errors"), and hardly any is in the first letter
(Yannakoudakis & Fawthrop 1983, "The rules of spelling errors"). Words that mean something else are as near, so three
things must hold beside: the word is long enough, nothing but letters differs, and the label is far rarer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from itertools import permutations

__all__ = ["misspelt_labels"]

_SHORTEST = 5
"""Letters of the words that are compared: of shorter ones, many that mean something else are as near."""
_SHORTEST_AMONG_OTHERS = 4
"""The same where other words of the label are equal."""
_LONG = 9
"""Letters from which on a word may have two misspellings."""
_RARER = 3
"""By what factor a misspelt label is rarer, at least; with two misspellings three times as much."""
_WORD = re.compile(r"[^\W\d_]+")


def misspelt_labels(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return labels that may be misspelt, each with the label that may be meant.

    Args:
        counts: How many examples each label has.
    """
    words = {label: _words(label) for label in counts}
    meant: dict[str, list[str]] = {}
    for rare, common in permutations(counts, 2):
        distance = _misspellings(words[rare], words[common])
        if distance and counts[rare] * _RARER ** (2 * distance - 1) <= counts[common]:
            meant.setdefault(rare, []).append(common)
    # the commonest of several, and by name where they are as common
    return [(rare, max(labels, key=lambda label: (counts[label], label))) for rare, labels in sorted(meant.items())]


def _words(label: str) -> tuple[list[str], list[str]]:
    """Return the words of a label, and all that stands around them."""
    plain = unicodedata.normalize("NFKC", label).casefold()
    return _WORD.findall(plain), _WORD.split(plain)


def _misspellings(rare: tuple[list[str], list[str]], common: tuple[list[str], list[str]]) -> int:
    """Return how many letters of the one word that differs are misspelt; 0 where it is no misspelling."""
    (a, around_a), (b, around_b) = rare, common
    if len(a) != len(b) or around_a != around_b:
        return 0
    differing = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    if len(differing) != 1:
        return 0
    [(x, y)] = differing
    shortest = min(len(x), len(y))
    least = _SHORTEST if len(a) == 1 else _SHORTEST_AMONG_OTHERS
    most = 0 if shortest < least or x[0] != y[0] else 1 if shortest < _LONG else 2
    distance = _distance(x, y) if abs(len(x) - len(y)) <= most else most + 1
    return distance if distance <= most else 0


def _distance(a: str, b: str) -> int:
    """Count insertions, deletions, substitutions and exchanges of neighbours that make `a` of `b`, the fewest."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last = row, before
        row = [i]
        for j, y in enumerate(b, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]
