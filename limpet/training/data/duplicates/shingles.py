"""Shingles: the runs of three words that texts are compared by, each as a number."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["SIMILARITY", "WordHashes", "fewest_shared", "normalise", "shingle_keys"]

SIMILARITY = 0.7
"""Texts with this Jaccard index or more are near duplicates."""
_WORDS_PER_SHINGLE = 3
_WORD = re.compile(r"\w+")
# below so many texts, what most of them share may be chance
_FEW = 20
# fewer shared shingles, such as the one of a link's beginning, are no instruction and make no texts alike
_FEWEST_SHARED = 5
_MOST_WORDS = 1 << 20
# odd 64-bit constants: a shingle's key is a sum of products modulo 2**64, so that equal keys are equal
# shingles but for one chance in 2**64
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def normalise(text: str) -> str:
    """Return the text without what makes no difference to a reader: case, spacing, compatible forms."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class WordHashes(dict[str, int]):
    """The number of a word, 64 bits of a digest, which depends on nothing else; many are remembered."""

    def __missing__(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        if len(self) < _MOST_WORDS:
            self[word] = number
        return number


def fewest_shared(texts: int) -> int:
    """Return how many shingles must be shared by more than half of so many texts so that they are not compared."""
    return _FEWEST_SHARED if texts >= _FEW else 1 << 62


def shingle_keys(
    normalised: Sequence[str], numbers: Mapping[str, int]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Return the key of every shingle of every text, each once a text, and beside it the text's place in the list.

    Args:
        normalised: The texts.
        numbers: The number of each word.
    """
    ids: list[int] = []
    lengths = []
    for text in normalised:
        # a text without a word is one shingle of itself; a shorter text than a shingle is padded with word 0
        words = _WORD.findall(text) or [text]
        ids += map(numbers.__getitem__, words)
        ids += [0] * (_WORDS_PER_SHINGLE - len(words))
        lengths.append(max(len(words), _WORDS_PER_SHINGLE))
    row = np.array(ids, dtype=np.uint64)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    last = _WORDS_PER_SHINGLE - 1
    keys = np.zeros(max(len(row) - last, 0), dtype=np.uint64)
    for place, factor in enumerate(_MIX):
        keys += row[place : place + len(keys)] * factor
    # three words in a row of which the last is another text's are no shingle
    inside = owners[: len(keys)] == owners[last:]
    keys, owners = keys[inside], owners[: len(inside)][inside]
    order = np.lexsort((keys, owners))
    keys, owners = keys[order], owners[order]
    is_new = np.ones(len(keys), dtype=np.bool_)
    is_new[1:] = (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])
    return keys[is_new], owners[is_new]
