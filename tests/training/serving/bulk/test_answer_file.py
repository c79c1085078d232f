"""Rows of a file, answered: what is carried through, what is answered, and what is said of the rest."""

from __future__ import annotations

import csv
import io
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from limpet.errors import ConflictError, DataError, InterruptedRunError, NotFoundError, UsageError
from limpet.home import Home, init
from limpet.training.learning.settings import TrainingSettings
from limpet.training.serving.bulk import BulkAnswers
from limpet.training.serving.bulk import answering as answering_module
from tests.migrated import with_database
from tests.tiny import FILLER, TOPICS, tiny_base, tiny_csv
from tests.training.typed_data import SPECS, write_rows
from tests.warm import Warm

TEXTS = [f"{word} of the {filler}" for filler in FILLER for words in TOPICS.values() for word in words]
"""180 texts of the tiny base's words."""
FEW = {"train_size": 12, "eval_size": 12, "max_new_tokens": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Home:
    """A home with a version of each type of task that has a head, called as their types are."""
    folder = tmp_path_factory.mktemp("bulk")
    made = init(with_database(folder / "home"), base=str(base_folder), mlflow="off")
    for kind, (text, target) in SPECS.items():
        spec = write_rows(folder / f"{kind}.jsonl", kind)
        made.task.add(kind, spec, type=kind, text_column=text, target_column=target, max_length=16)
        made.train(kind, TrainingSettings("lora", epochs=3, learning_rate=1e-2), monitor=False)
    return made


def write_csv(path: Path, rows: Sequence[Sequence[str]], names: Sequence[str] = ("id", "text", "note")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([names, *rows])
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def rows_of(texts: Sequence[str] = TEXTS) -> list[list[str]]:
    return [[f"00{at}", text, f'a, "note"\n{at}'] for at, text in enumerate(texts)]


def test_columns_are_carried_through_and_answers_are_those_of_predict(home: Home, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "rows.csv", rows_of()), tmp_path / "answers.csv"
    answers = home.predict_file("classification", path, out)
    found = read(out)
    assert list(found[0]) == ["id", "text", "note", "prediction"]
    assert [[row["id"], row["text"], row["note"]] for row in found] == rows_of()
    assert [row["prediction"] for row in found] == [one.label for one in home.predict("classification", TEXTS)]
    version = home.adapter.show("classification")
    assert (answers.version, answers.digest, answers.tally.answered) == (1, version.digest, len(TEXTS))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("into", ["csv", "tsv", "jsonl", "parquet"])
def test_any_format_leads_to_any_other(home: Home, tmp_path: Path, suffix: str, into: str) -> None:
    path, out = tmp_path / f"rows.{suffix}", tmp_path / f"answers.{into}"
    texts = TEXTS[:5]
    cells = [{"id": f"0{at}", "text": text} for at, text in enumerate(texts)]
    if suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in cells), encoding="utf-8")
    elif suffix == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(cells), path)
    else:
        write_csv(path, [list(row.values()) for row in cells], names=["id", "text"])
    home.predict_file("classification", path, out)
    if into == "jsonl":
        found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        found = parquet.read_table(out).to_pylist() if into == "parquet" else read(out)
    labels = [one.label for one in home.predict("classification", texts)]
    assert found == [{**row, "prediction": label} for row, label in zip(cells, labels, strict=True)]


def test_json_lines_and_the_types_of_parquet_stay_as_they_are(home: Home, tmp_path: Path) -> None:
    line = '{"id": 12345678901234567890, "text" : "a wave",  "x": 1.50, "deep": {"a": [1e3, null]}}'
    (tmp_path / "rows.jsonl").write_text(f"{line}\n\n", encoding="utf-8")
    home.predict_file("classification", tmp_path / "rows.jsonl", tmp_path / "a.jsonl")
    written = (tmp_path / "a.jsonl").read_text(encoding="utf-8")
    assert written.startswith(f"{line[:-1]}, ") and json.loads(written)["prediction"]
    table = pyarrow.table(
        {
            "id": pyarrow.array([1, 2], pyarrow.int16()),
            "text": pyarrow.array(["a wave", None]).dictionary_encode(),
            "day": pyarrow.array([0, 1], pyarrow.int32()).cast(pyarrow.date32()),
        }
    ).replace_schema_metadata({b"written by": b"us"})
    parquet.write_table(table, tmp_path / "rows.parquet")
    home.predict_file("classification", tmp_path / "rows.parquet", tmp_path / "a.parquet")
    answers = parquet.read_table(tmp_path / "a.parquet")
    assert answers.drop_columns("prediction").equals(table)
    assert answers.schema.metadata == {b"written by": b"us"}


def test_each_type_of_task_has_its_own_columns(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:4]), encoding="utf-8")

    def answered(task: str, **options: object) -> list[dict[str, object]]:
        out = tmp_path / f"{task}{len(options)}.jsonl"
        home.predict_file(task, path, out, **options)  # type: ignore[arg-type]
        return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

    for row, one in zip(answered("regression"), home.predict("regression", TEXTS[:4]), strict=True):
        assert row["prediction"] == pytest.approx(one.value, rel=1e-5)
    for row, one in zip(
        answered("token-classification", probabilities=True),
        home.predict("token-classification", TEXTS[:4]),
        strict=True,
    ):
        assert (row["prediction"], row["prediction_words"]) == (list(one.tags), list(one.words))
        assert row["prediction_probabilities"] == pytest.approx(one.probabilities, abs=1e-5)
    several = home.predict("multi-label", TEXTS[:4])
    labels = home.adapter.show("multi-label").labels
    for row, one in zip(answered("multi-label", probabilities=True, threshold=0.2), several, strict=True):
        chosen = [label for label, value in zip(labels, one.probabilities, strict=True) if value >= 0.2]
        assert row["prediction"] == chosen
        assert [row[f"probability_{label}"] for label in labels] == pytest.approx(one.probabilities, abs=1e-5)
    home.predict_file("multi-label", path, tmp_path / "several.csv", threshold=0.01)
    assert read(tmp_path / "several.csv")[0]["prediction"] == "|".join(labels)


def test_what_is_written_stands_in_one_cell(tmp_path: Path, home_folder: Path) -> None:
    base = tiny_base(tmp_path / "gpt2", "gpt2")
    home = init(home_folder, base=str(base), mlflow="off")
    place = tiny_csv(tmp_path / "place.csv")
    home.task.add(
        "topic", f"csv:{place}", type="generation", target_column="label", prompt="{text}", max_length=32, **FEW
    )
    home.train("topic", TrainingSettings("lora", epochs=1), monitor=False)
    path = write_csv(tmp_path / "rows.csv", rows_of(TEXTS[:6]))
    home.predict_file("topic", path, tmp_path / "a.csv")
    found = [row["prediction"] for row in read(tmp_path / "a.csv")]
    assert found == [one.answer for one in home.predict("topic", TEXTS[:6])]


def test_a_threshold_leaves_answers_out_that_are_less_probable(home: Home, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "rows.csv", rows_of()), tmp_path / "answers.csv"
    alone = home.predict("classification", TEXTS)
    middle = sorted(one.probability for one in alone)[len(alone) // 2]
    answers = home.predict_file("classification", path, out, threshold=middle, probabilities=True)
    found = read(out)
    assert [row["prediction"] for row in found] == [one.label if one.probability >= middle else "" for one in alone]
    assert 0 < answers.tally.abstained < len(TEXTS)
    assert answers.tally.answered + answers.tally.abstained == len(TEXTS)
    labels = home.adapter.show("classification").labels
    for row, one in zip(found, alone, strict=True):
        assert max(float(row[f"probability_{label}"]) for label in labels) == pytest.approx(one.probability, abs=1e-5)


@pytest.mark.parametrize("option", [{"probabilities": True}, {"threshold": 0.5}])
def test_what_a_type_of_task_does_not_have_is_refused(home: Home, tmp_path: Path, option: dict[str, object]) -> None:
    path = write_csv(tmp_path / "rows.csv", rows_of())
    with pytest.raises(UsageError, match="regression"):
        home.predict_file("regression", path, tmp_path / "a.csv", **option)  # type: ignore[arg-type]
    assert not (tmp_path / "a.csv").exists()


def test_rows_without_a_text_have_an_empty_answer_and_are_counted(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    cells = [{"text": "a wave"}, {"text": "  "}, {"text": None}, {"id": 4}, {"text": 5}, {"text": "\ud800"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in cells), encoding="utf-8")
    tally = home.predict_file("classification", path, tmp_path / "a.csv").tally
    assert [bool(row["prediction"]) for row in read(tmp_path / "a.csv")] == [True, *[False] * 5]
    assert tally.unanswered == {"empty": 1, "null": 1, "no such column": 1, "no text": 1, "not UTF-8": 1}
    assert [one.row for one in tally.first_unanswered] == [2, 3, 4, 5, 6]
    assert (tally.rows, tally.answered) == (6, 1)


def test_a_row_with_too_few_cells_is_carried_and_not_answered(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,text,note\n1,a wave,x\n\n2,a star\n3,salt,y\n", encoding="utf-8")
    tally = home.predict_file("classification", path, tmp_path / "a.csv").tally
    found = read(tmp_path / "a.csv")
    assert [row["id"] for row in found] == ["1", "2", "3"]
    assert [bool(row["prediction"]) for row in found] == [True, False, True]
    assert tally.unanswered == {"fewer cells than the header": 1}


def test_a_row_with_too_many_cells_is_named_before_anything_is_answered(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,text\n1,a wave\n2,a star, far\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 2 has 3 fields"):
        home.predict_file("classification", path, tmp_path / "a.csv")
    assert [one.name for one in tmp_path.iterdir()] == ["rows.csv"]


def test_a_file_of_spreadsheets_stays_one(home: Home, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbfid;text\r\n1;a wave, a star\r\n")
    home.predict_file("classification", tmp_path / "rows.csv", tmp_path / "a.csv")
    written = (tmp_path / "a.csv").read_bytes()
    assert written.startswith(b"\xef\xbb\xbfid;text;prediction\r\n1;a wave, a star;")
    assert written.count(b"\n") == written.count(b"\r\n") == 2


def test_answers_of_a_second_task_stand_beside_those_of_the_first(home: Home, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", rows_of(TEXTS[:3]))
    home.predict_file("classification", path, tmp_path / "one.csv")
    second = home.predict_file("regression", tmp_path / "one.csv", tmp_path / "two.csv")
    assert second.columns == ("regression_prediction",)
    assert list(read(tmp_path / "two.csv")[0])[-2:] == ["prediction", "regression_prediction"]


def test_texts_that_are_cut_are_counted(home: Home, tmp_path: Path) -> None:
    texts = ["a wave", "old wave " * 20]
    path = write_csv(tmp_path / "rows.csv", rows_of(texts))
    assert home.predict_file("classification", path, tmp_path / "a.csv").tally.cut == 1


def test_the_column_of_the_texts_is_named_or_known(home: Home, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", [["a wave", "b"]], names=["body", "other"])
    with pytest.raises(DataError, match="'body', 'other'") as refused:
        home.predict_file("classification", path, tmp_path / "a.csv")
    assert "--text COL" in refused.value.hint
    answers = home.predict_file("classification", path, tmp_path / "a.csv", text="body+other")
    (alone,) = home.predict("classification", ["a wave\nb"])
    assert read(tmp_path / "a.csv")[0]["prediction"] == alone.label
    assert answers.text_column == "body+other"
    with pytest.raises(DataError, match="no column 'text'"):
        home.predict_file("classification", path, tmp_path / "b.csv", text="text")


# going on, and what is there already


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(answering_module, "_BATCHES", 2)
    yield


class Stops:
    """Progress that raises once so many rows are behind."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.notes: list[str] = []

    def start(self, description: str, total: int) -> None:
        self.total = total

    def advance(self, done: int, detail: str = "") -> None:
        if done >= self.after:
            raise KeyboardInterrupt

    def finish(self) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("into", ["csv", "jsonl", "parquet"])
@pytest.mark.usefixtures("small_chunks")
def test_what_was_stopped_goes_on_and_gives_the_same_bytes(home: Home, tmp_path: Path, into: str) -> None:
    path = write_csv(tmp_path / "rows.csv", rows_of([*TEXTS, "", *TEXTS[:7]]))
    whole, out = tmp_path / f"whole.{into}", tmp_path / f"answers.{into}"
    undisturbed = home.predict_file("classification", path, whole, batch_size=8)
    for after in (20, 60):
        with pytest.raises(InterruptedRunError):
            home.predict_file("classification", path, out, batch_size=8, progress=Stops(after))
        assert not out.exists()
        # whatever was written behind the last row that is known to be there is cut off
        with (tmp_path / f"answers.{into}.partial" / "rows").open("ab") as file:
            file.write(b"half a r")
    told = Stops(10**6)
    answers = home.predict_file("classification", path, out, batch_size=8, progress=told)
    assert out.read_bytes() == whole.read_bytes()
    assert answers.resumed_at > 20 and told.total == len(TEXTS) + 8 - answers.resumed_at
    assert any("goes on after" in note for note in told.notes)
    assert answers.tally == undisturbed.tally
    assert not (tmp_path / f"answers.{into}.partial").exists()


KILLED = """
import os, signal, sys
from limpet.home import open_home
from limpet.training.serving.bulk import answering
answering._BATCHES = 2
class Kills:
    def start(self, description, total): pass
    def advance(self, done, detail=""):
        if done >= 50:
            os.kill(os.getpid(), signal.SIGKILL)
    def finish(self): pass
    def note(self, text): pass
home, path, out = sys.argv[1:]
open_home(home).predict_file("classification", path, out, batch_size=8, progress=Kills())
"""


@pytest.mark.usefixtures("small_chunks")
def test_a_killed_process_leaves_no_answers_under_their_name_and_is_gone_on_with(
    home: Home, tmp_path: Path, warm: Warm
) -> None:
    path, out = write_csv(tmp_path / "rows.csv", rows_of()), tmp_path / "answers.csv"
    (tmp_path / "killed.py").write_text(KILLED, encoding="utf-8")
    process = warm.start(tmp_path / "killed.py", home.path, path, out)
    said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    assert not out.exists()
    answers = home.predict_file("classification", path, out, batch_size=8)
    assert answers.resumed_at >= 32
    home.predict_file("classification", path, tmp_path / "whole.csv", batch_size=8)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_the_same_call_again_does_nothing(home: Home, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "rows.csv", rows_of(TEXTS[:3])), tmp_path / "a.csv"
    first = home.predict_file("classification", path, out)
    before = out.stat().st_mtime_ns
    again = home.predict_file("classification@1", path, out)
    assert (again.already, again.tally, again.output_digest) == (True, first.tally, first.output_digest)
    assert out.stat().st_mtime_ns == before


def foreign(home: Home, path: Path, out: Path) -> None:
    out.write_text("mine\n", encoding="utf-8")


def edited(home: Home, path: Path, out: Path) -> None:
    home.predict_file("classification", path, out)
    out.write_text(out.read_text(encoding="utf-8").replace("00", "11"), encoding="utf-8")


def of_another_task(home: Home, path: Path, out: Path) -> None:
    home.predict_file("regression", path, out)


def begun_otherwise(home: Home, path: Path, out: Path) -> None:
    with pytest.raises(InterruptedRunError):
        home.predict_file("classification", path, out, probabilities=True, batch_size=1, progress=Stops(3))


def of_a_stranger(home: Home, path: Path, out: Path) -> None:
    out.with_name("a.csv.partial").mkdir()
    out.with_name("a.csv.partial").joinpath("thesis.tex").write_text("mine", encoding="utf-8")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("there", [foreign, edited, of_another_task, begun_otherwise, of_a_stranger])
def test_what_is_not_this_calls_is_not_written_over(home: Home, tmp_path: Path, there: object) -> None:
    path, out = write_csv(tmp_path / "rows.csv", rows_of(TEXTS[:3])), tmp_path / "a.csv"
    there(home, path, out)  # type: ignore[operator]
    before = {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()}
    with pytest.raises(ConflictError) as refused:
        home.predict_file("classification", path, out)
    assert refused.value.hint
    assert {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file() and one.name != "lock"} == {
        one: content for one, content in before.items() if one.name != "lock"
    }


def test_a_file_without_rows_leads_to_one_without_answers(home: Home, tmp_path: Path) -> None:
    answers = home.predict_file("classification", write_csv(tmp_path / "rows.csv", []), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").split() == ["id,text,note,prediction"]
    assert answers.tally.rows == 0


def test_what_was_begun_and_has_no_row_yet_is_in_nobodys_way(home: Home, tmp_path: Path) -> None:
    path, out = write_csv(tmp_path / "rows.csv", rows_of(TEXTS[:3])), tmp_path / "a.csv"
    with pytest.raises(InterruptedRunError):
        home.predict_file("regression", path, out, progress=Stops(0))
    assert home.predict_file("classification", path, out).tally.answered == 3


def test_a_file_is_not_read_and_written_at_once(home: Home, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", rows_of(TEXTS[:3]))
    with pytest.raises(UsageError, match="read and written"):
        home.predict_file("classification", path, path)
    with pytest.raises(NotFoundError, match="no folder"):
        home.predict_file("classification", path, tmp_path / "none" / "a.csv")
    with pytest.raises(UsageError, match="format"):
        home.predict_file("classification", path, tmp_path / "answers")


def test_a_stream_receives_what_a_file_would(home: Home, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", rows_of(TEXTS[:3]))
    stream = io.BytesIO()
    streamed: BulkAnswers = home.predict_file("classification", path, stream)
    home.predict_file("classification", path, tmp_path / "a.csv")
    assert stream.getvalue() == (tmp_path / "a.csv").read_bytes()
    assert (streamed.out, streamed.output_digest) == (None, None)


# computed in bfloat16 where that decides the same


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("task", ["classification", "multi-label", "token-classification"])
def test_labels_are_those_of_float32_whatever_they_were_computed_in(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, task: str
) -> None:
    backbone = home.backbone()
    monkeypatch.setitem(vars(backbone), "evaluation_dtype", dtype)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), encoding="utf-8")
    tally = home.predict_file(task, path, tmp_path / "a.jsonl").tally
    found = [json.loads(line)["prediction"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    names = {"classification": "label", "multi-label": "labels", "token-classification": "tags"}
    alone = [getattr(one, names[task]) for one in home.predict(task, TEXTS)]
    assert found == [one if isinstance(one, str) else list(one) for one in alone]
    assert tally.in_float32 == len(TEXTS) if dtype == "float32" else 16 <= tally.in_float32 <= len(TEXTS)
