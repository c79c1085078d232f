"""How near a written JSON value comes to the one that was wanted: field by field, or whole.

A value is taken apart into its fields: the path of keys to each text, number, true, false or null, and that. A list
has no places in a path, so its elements are a bag: an extraction that names the same items in another order is as
good. So Donut scores what is read off receipts and forms (Kim et al. 2022, arXiv 2111.15664, `JSONParseEvaluator`),
but pools the fields of all documents; here every example counts as much as every other, as in the rest of the
metrics. What belongs together inside an element is not asked for by `json-f1`; `json-exact` asks for everything.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import TYPE_CHECKING

from limpet.registry.formats.strict_json import refuse_constant, without_twins
from limpet.training.metrics.metric import Metric, mean
from limpet.training.metrics.units import SHARE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["JSON_EXACT", "JSON_F1", "is_json", "is_json_object", "json_exact", "json_f1"]

_Path = tuple[str, ...]
_Field = tuple[_Path, str, object]
_ELEMENT = "[]"
"""Stands in a path for any place of a list; no key of an object looks like it, for those are marked."""
_LARGEST_EXPONENT = 10_000


class _UnreadableError(ValueError):
    """A text that is no JSON, or says a thing twice."""


def json_f1(prediction: str, target: str) -> float:
    """F1 over the fields of both values: 2 common / (all of the one + all of the other).

    Numbers are compared as numbers (`1` is `1.0`), texts after NFC and without blanks around them. An empty object or
    list is a field of its own. A prediction that is no JSON scores 0.
    """
    try:
        given, wanted = _fields(prediction), _fields(target)
    except _UnreadableError:
        return 0.0
    common = sum((given & wanted).values())
    return 2 * common / (given.total() + wanted.total())


def json_exact(prediction: str, target: str) -> bool:
    """Whether both are the same JSON value: the order of keys and the writing of numbers and signs aside."""
    try:
        return _canonical(_parsed(prediction)) == _canonical(_parsed(target))
    except _UnreadableError:
        return False


def is_json(text: object) -> bool:
    """Tell whether a text is one JSON value: no key twice, no `NaN`, and nothing around it but blanks."""
    try:
        _fields(str(text))
    except _UnreadableError:
        return False
    return True


def is_json_object(text: object) -> bool:
    """Tell whether a text is a JSON object."""
    return str(text).lstrip()[:1] == "{" and is_json(text)


def _parsed(text: str) -> object:
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=without_twins,
            parse_constant=refuse_constant,
            parse_float=_number,
            parse_int=_number,
        )
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise _UnreadableError(str(error)) from error
    return value


def _number(text: str) -> Decimal:
    # exact, and not as far as a float goes
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and abs(exponent) > _LARGEST_EXPONENT:
        raise _UnreadableError("a number is larger than anybody means")
    return number


@lru_cache(maxsize=4096)
def _fields(text: str) -> Counter[_Field]:
    try:
        return Counter(_flattened(_parsed(text), ()))
    except RecursionError as error:
        raise _UnreadableError("it is nested too deeply") from error


def _flattened(value: object, path: _Path) -> Iterator[_Field]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _flattened(part, (*path, f".{unicodedata.normalize('NFC', key)}"))
    elif isinstance(value, list) and value:
        for part in value:
            yield from _flattened(part, (*path, _ELEMENT))
    else:
        yield path, *_leaf(value)


def _leaf(value: object) -> tuple[str, object]:
    """Return a value with its kind, for true is 1 to Python and nobody else."""
    if isinstance(value, str):
        return "text", unicodedata.normalize("NFC", value).strip()
    if isinstance(value, bool) or value is None:
        return "constant", str(value)
    if isinstance(value, Decimal):
        return "number", value
    return "empty", type(value).__name__


def _canonical(value: object) -> object:
    """Return a value whose equality is that of JSON; with objects without an order, and lists in theirs."""
    try:
        if isinstance(value, dict):
            return "object", frozenset((key, _canonical(part)) for key, part in value.items())
        if isinstance(value, list):
            return "list", tuple(map(_canonical, value))
    except RecursionError as error:
        raise _UnreadableError("it is nested too deeply") from error
    return (_leaf(value)[0], value)


def _f1_of_each(predictions: Sequence[str], targets: Sequence[str]) -> Array:
    import numpy as np

    return np.array([[json_f1(*pair) for pair in zip(predictions, targets, strict=True)]], dtype=np.float64)


def _exact_of_each(predictions: Sequence[str], targets: Sequence[str]) -> Array:
    import numpy as np

    return np.array([[json_exact(*pair) for pair in zip(predictions, targets, strict=True)]], dtype=np.float64)


JSON_F1 = Metric(
    "json-f1",
    "mean over the examples of the F1 over the fields of answer and target, in 0 to 1: the paths of keys with the "
    "values at their ends, elements of lists without an order (after Kim et al. 2022, who pool all fields); numbers "
    "are compared as numbers, texts after NFC and without blanks around them; an answer that is no JSON scores 0",
    _f1_of_each,
    mean,
    is_readable=is_json,
    unit=SHARE,
)
JSON_EXACT = Metric(
    "json-exact",
    "share of the answers that are the JSON value of the target, in 0 to 1: keys in any order, lists in theirs, "
    "numbers as numbers, texts to the letter; an answer that is no JSON is wrong",
    _exact_of_each,
    mean,
    is_correct=json_exact,
    is_readable=is_json,
    unit=SHARE,
)
