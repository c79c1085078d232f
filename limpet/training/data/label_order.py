"""Which id each label has: the order of a label map, which rows of heads made elsewhere are read by."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal

from limpet.errors import UsageError
from limpet.first_few import first_few

__all__ = ["look_alikes", "order_labels"]

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def order_labels(
    labels: Collection[str], class_names: Sequence[str] = (), given: Sequence[str] | None = None
) -> tuple[tuple[str, ...], str]:
    """Return the labels in their order, and what that order is.

    The order that was given goes first, then that of the data's own class names, then that of numbers where every
    label is one; else labels stand in alphabetical order.

    Args:
        labels: The labels that the data has.
        class_names: The names of the data's classes, in its own order; some may have no example.
        given: The order that was asked for.

    Raises:
        UsageError: What was asked for is not each label once.
    """
    if given is not None:
        return _as_given(labels, given), "as given"
    if class_names and set(labels) <= set(class_names):
        return tuple(name for name in class_names if name in labels), "the data's own"
    if all(map(_NUMBER.fullmatch, labels)):
        return tuple(sorted(labels, key=lambda label: (Decimal(label), label))), "by number"
    return tuple(sorted(labels)), "alphabetical"


def _as_given(labels: Collection[str], given: Sequence[str]) -> tuple[str, ...]:
    wrong = {
        "names twice": [label for at, label in enumerate(given) if label in given[:at]],
        "names, and no example has,": [label for label in given if label not in labels],
        "lacks": sorted(set(labels) - set(given)),
    }
    for what, which in wrong.items():
        if which:
            raise UsageError(
                f"--labels {what} {first_few(map(repr, which))}; the labels of the data are: "
                f"{', '.join(map(repr, sorted(labels)))}.",
                f"--labels {','.join(sorted(labels))}",
            )
    return tuple(given)


def look_alikes(labels: Iterable[str]) -> list[str]:
    """Say which labels may be meant to be one: they differ by case, spaces, Unicode form or the way of a number."""
    groups: dict[object, list[str]] = defaultdict(list)
    for label in sorted(labels):
        groups[_likeness(label)].append(label)
    return [
        f"the labels {', '.join(map(repr, alike))} differ only by {_difference(alike)}: they are learned as "
        f"{len(alike)} labels"
        for alike in groups.values()
        if len(alike) > 1
    ]


def _likeness(label: str) -> object:
    if _NUMBER.fullmatch(label):
        return Decimal(label)
    return "".join(unicodedata.normalize("NFKC", label).casefold().split())


def _difference(alike: Sequence[str]) -> str:
    forms: dict[str, list[str]] = {
        "the way a number is written": ["number" * bool(_NUMBER.fullmatch(label)) for label in alike],
        "Unicode form": [unicodedata.normalize("NFKC", label) for label in alike],
        "case": [label.casefold() for label in alike],
        "spaces": ["".join(label.split()) for label in alike],
    }
    return next((name for name, same in forms.items() if same[0] and len(set(same)) == 1), "case, spaces or form")
