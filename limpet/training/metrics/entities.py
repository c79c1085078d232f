"""Entities among the words of a text, as tags of the IOB2 scheme say, and how many of them were found.

`B-PER` begins an entity of type PER and `I-PER` goes on with it; `O` is outside of all. An `I-` that nothing of its
type precedes begins an entity too, as in the evaluation of CoNLL-2000 (Tjong Kim Sang & Buchholz 2000). A tag of
another form is an entity of one word, so that tags without a scheme can be scored as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from limpet.training.metrics.metric import Metric, f1
from limpet.training.metrics.units import SHARE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["ENTITY_F1", "OUTSIDE", "TOKEN_ACCURACY", "entities"]

OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return the entities of one text: type, first word and word after the last.

    Args:
        tags: One for each word.
    """
    entities = set()
    kind, begin = "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, dash, rest = tag.partition("-")
        schemed = bool(dash) and prefix in ("B", "I")
        now = "" if tag == OUTSIDE else rest if schemed else tag
        goes_on = schemed and prefix == "I" and now == kind
        if kind and not goes_on:
            entities.add((kind, begin, place))
        if not goes_on:
            kind, begin = now, place
    return entities


def _count_entities(predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> Array:
    """Entities of each example that are found, and that are wrong or missing: (2, examples)."""
    import numpy as np

    pairs = [(entities(a), entities(b)) for a, b in zip(predictions, targets, strict=True)]
    return np.array([[len(a & b) for a, b in pairs], [len(a ^ b) for a, b in pairs]], dtype=np.float64)


def _micro(sums: Array, examples: int) -> Array:
    return f1(sums[..., 0], sums[..., 1])


def _count_words(predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> Array:
    """Words of each example whose tag is right, and all of them: (2, examples)."""
    import numpy as np

    pairs = list(zip(predictions, targets, strict=True))
    right = [sum(x == y for x, y in zip(a, b, strict=True)) for a, b in pairs]
    return np.array([right, [len(b) for _, b in pairs]], dtype=np.float64)


def _share(sums: Array, examples: int) -> Array:
    share: Array = sums[..., 0] / sums[..., 1]
    return share


ENTITY_F1 = Metric(
    "entity-f1",
    "2 TP / (2 TP + FP + FN) over the entities of all examples together, an entity being right where its type, first "
    "and last word are, in 0 to 1; 0 where there is none (IOB2; Tjong Kim Sang & De Meulder 2003)",
    _count_entities,
    _micro,
    unit=SHARE,
)
TOKEN_ACCURACY = Metric(
    "token-accuracy",
    "share of all words whose tag is the target's, in 0 to 1",
    _count_words,
    _share,
    unit=SHARE,
)
