"""Where the answers that are served are not those that were measured, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from limpet.forgetting.report.arm_values import VersionReport

__all__ = ["served_sentences"]


def served_sentences(versions: Sequence[VersionReport]) -> list[str]:
    """Return a sentence that names the versions whose `served_agreement` is below 1; none where all serve alike.

    Versions of older homes have no such figure, and nothing is said of them.
    """
    below = [
        (version.reference, version.served_agreement)
        for version in versions
        if version.served_agreement is not None and version.served_agreement < 1
    ]
    if not below:
        return []
    named = ", ".join(f"{reference} on {share:.1%} of the examples" for reference, share in dict(below).items())
    return [
        f"What is served is not always what was measured: the served answers are the measured ones for {named}; "
        f"limpet adapter show {below[0][0]} names the others."
    ]
