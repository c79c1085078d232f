"""Exact and near duplicates of texts: what must not stand on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence

from limpet.training.data.duplicates.exact import Shingles
from limpet.training.data.duplicates.minhash import MinHashes
from limpet.training.data.duplicates.shingles import SIMILARITY, normalise

__all__ = ["SIMILARITY", "MinHashes", "Shingles", "normalise", "shingles_of"]

_MOST_TEXTS = 100_000
_MOST_CHARACTERS = 1 << 26


def shingles_of(normalised: Sequence[str], characters: int) -> Shingles | MinHashes:
    """Return what tells near duplicates among texts: exactly for up to 100,000 texts of 64 MiB, else by MinHash.

    Args:
        normalised: The texts, each as `normalise` returns it.
        characters: How many they have together.
    """
    exact = len(normalised) <= _MOST_TEXTS and characters <= _MOST_CHARACTERS
    return Shingles(normalised) if exact else MinHashes(normalised)
