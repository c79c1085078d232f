"""What a base's SPEC says of how its weights are held: `SPEC#nf4`, `SPEC#int8`, or a dtype that its files are not in.

A base in fewer bits than its files gives other answers, so it is a base of its own: its digest is over the files'
digest and the recipe, the version of the library that quantised it among that.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from limpet.errors import IntegrityError, UnavailableError, UsageError
from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonObject
from limpet.registry.values import BaseRecord

__all__ = [
    "DTYPES",
    "QUANTISATIONS",
    "check_library",
    "digest_with",
    "recipe_for",
    "recipe_of",
    "split_spec",
    "with_recipe",
]

DTYPES = ("float32", "bfloat16", "float16")
QUANTISATIONS = {
    "nf4": {"bits": 4, "type": "nf4", "block": 64, "double": True},
    "int8": {"bits": 8, "type": "absmax of each row"},
}
"""How weights of linear layers are stored: in blocks of NormalFloat4 (Dettmers et al. 2023, arXiv 2305.14314), or in
whole numbers with a scale for each row (Dettmers et al. 2022, arXiv 2208.07339); products have 16 bits or more."""
_EXTRA = "pip install 'limpet[quantised]'"


def split_spec(spec: str) -> tuple[str, str | None]:
    """Return a base SPEC without the word that says how it is held, and that word; null where there is none."""
    before, mark, word = spec.rpartition("#")
    return (before, word) if mark and word in (*DTYPES, *QUANTISATIONS) else (spec, None)


def with_recipe(spec: str, dtype: str | None, quantize: str | None) -> str:
    """Return a base SPEC that says how its weights are held, as it was asked for in options.

    Raises:
        UsageError: There is no such dtype or quantisation, or more than one is asked for.
    """
    if dtype is not None and dtype not in ("auto", *DTYPES):
        raise UsageError(f"A base can't be held in {dtype!r}.", f"it must be auto, {', '.join(DTYPES)}")
    if quantize is not None and quantize not in QUANTISATIONS:
        raise UsageError(f"A base can't be quantised to {quantize!r}.", f"it must be {' or '.join(QUANTISATIONS)}")
    words = [word for word in (None if dtype == "auto" else dtype, quantize) if word]
    words += [said] if (said := split_spec(spec)[1]) and said not in words else []
    if len(words) > 1:
        raise UsageError(
            f"A base is held in one way, and {' and '.join(words)} are two.", "leave out --dtype or --quantize"
        )
    return f"{split_spec(spec)[0]}#{words[0]}" if words else spec


def recipe_for(word: str | None, stored: str) -> JsonObject | None:
    """Return the recipe that a word of a SPEC stands for; null where the files are in that dtype already.

    Args:
        word: See `split_spec`.
        stored: The dtype that holds the weights of the files.

    Raises:
        UnavailableError: It needs a library that is not installed.
    """
    if word is None or word == stored:
        return None
    if word in DTYPES:
        return {"dtype": word}
    return {"quantize": word, "settings": dict(QUANTISATIONS[word]), "library": _library(word)}


def recipe_of(record: BaseRecord) -> JsonObject | None:
    """Return how a base is held; null where it is as its files are."""
    recipe: JsonObject | None = record.location.get("recipe")
    return recipe


def digest_with(files: str, recipe: JsonObject | None) -> str:
    """Return the digest of a base whose files have the digest `files`, held by a recipe."""
    return files if recipe is None else digest_json({"files": files, "recipe": recipe})


def check_library(record: BaseRecord) -> None:
    """Refuse a quantised base that another version of the library would make into another one.

    Raises:
        IntegrityError: It was quantised by another version.
        UnavailableError: The library is not installed.
    """
    recipe = recipe_of(record)
    if recipe is None or "quantize" not in recipe:
        return
    library = _library(str(recipe["quantize"]))
    if recipe["library"] != library:
        name, _, number = str(recipe["library"]).partition(" ")
        raise IntegrityError(
            f"The base {record.name!r} was quantised by {recipe['library']}, and {library} is installed, which may "
            "make other weights of it.",
            f"pip install {name}=={number}",
        )


def _library(word: str) -> str:
    try:
        return f"bitsandbytes {version('bitsandbytes')}"
    except PackageNotFoundError:
        raise UnavailableError(
            f"A base in {word} needs the package bitsandbytes, which is not installed.", _EXTRA
        ) from None
