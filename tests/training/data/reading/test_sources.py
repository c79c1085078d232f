"""Reading: every kind of SPEC, and what a newcomer does wrong with it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from limpet.errors import DataError, LimpetError, NotFoundError, UsageError
from limpet.training.data.reading.sources import Source, read_source
from limpet.training.task_types import task_type

ROWS = [("good film", "pos"), ("bad film", "neg"), ("NA", "None"), ("", "pos"), ("comma, and\nline", "neg")]
TARGETS = task_type("classification").target_columns


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))


def write_csv(
    path: Path, rows: Sequence[tuple[str, str]] = ROWS, header: tuple[str, ...] = ("text", "label")
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_jsonl(path: Path, rows: Sequence[tuple[str, object]] = ROWS) -> Path:
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return path


def write_parquet(path: Path, rows: Sequence[tuple[str, str]] = ROWS) -> Path:
    pq.write_table(pa.table({"text": [row[0] for row in rows], "label": [row[1] for row in rows]}), path)
    return path


def read(spec: str, text: str | None = None, label: str | None = None) -> Source:
    return read_source(spec, text, label, target_columns=TARGETS)


def rows_of(source: Source, part: str = "train") -> list[tuple[object, object]]:
    return list(zip(source.pools[part].texts, source.pools[part].targets, strict=True))


@pytest.mark.parametrize(("kind", "write"), [("csv", write_csv), ("jsonl", write_jsonl), ("parquet", write_parquet)])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str, write: object) -> None:
    path = write(tmp_path / f"data.{kind}")  # type: ignore[operator]
    assert rows_of(read(f"{kind}:{path}")) == ROWS


def test_train_eval_and_validation_files_become_parts(tmp_path: Path) -> None:
    # a comma in a path is no separator
    train = write_csv(tmp_path / "a,b.csv", ROWS[:2])
    evaluation, validation = write_csv(tmp_path / "e.csv", ROWS[2:3]), write_csv(tmp_path / "v.csv", ROWS[4:])
    source = read(f"csv:train={train},eval={evaluation},validation={validation}")
    assert {part: rows_of(source, part) for part in source.pools} == {
        "train": ROWS[:2],
        "evaluation": ROWS[2:3],
        "validation": ROWS[4:],
    }


def test_numbers_and_truth_values_in_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    rows = [("1", "007"), ("2.50", "True"), ("null", "1e3")]
    assert rows_of(read(f"csv:{write_csv(tmp_path / 'n.csv', rows)}")) == rows


def test_many_rows_that_change_kind_half_way_are_read(tmp_path: Path) -> None:
    rows = [(f"text {number}", "1" if number < 25_000 else "one") for number in range(30_000)]
    assert rows_of(read(f"csv:{write_csv(tmp_path / 'n.csv', rows)}")) == rows


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "bom.csv", ROWS[:2])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert rows_of(read(f"csv:{path}")) == ROWS[:2]


def test_a_file_written_again_in_the_same_instant_is_read_again(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", [("first", "a")])
    stat = path.stat()
    assert rows_of(read(f"jsonl:{path}")) == [("first", "a")]
    write_jsonl(path, [("other", "b")])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert rows_of(read(f"jsonl:{path}")) == [("other", "b")]


def test_class_names_stored_in_parquet_are_the_labels(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, None]}, features=features)
    data.to_parquet(tmp_path / "data.parquet")
    source = read(f"parquet:{tmp_path / 'data.parquet'}")
    assert rows_of(source) == [("a", "yes"), ("b", "no"), ("c", None)]
    assert source.class_names == ("no", "yes")


def test_lists_of_class_labels_are_read_by_their_names(tmp_path: Path) -> None:
    import datasets

    tags = datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    words = datasets.List(datasets.Value("string"))
    features = datasets.Features({"words": words, "tags": datasets.List(tags)})
    data = datasets.Dataset.from_dict({"words": [["Ada", "Lovelace"]], "tags": [[1, 2]]}, features=features)
    data.to_parquet(tmp_path / "data.parquet")
    source = read(f"parquet:{tmp_path / 'data.parquet'}", "words", "tags")
    assert rows_of(source) == [(["Ada", "Lovelace"], ["B-PER", "I-PER"])]
    assert source.class_names == ("O", "B-PER", "I-PER")


def test_columns_are_found_by_their_usual_names_or_named(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("id,content,sentence,class,category\n1,c,s,k,g\n")
    found = read(f"csv:{path}")
    assert (found.text_column, found.target_column) == ("sentence", "category")
    assert rows_of(found) == [("s", "g")]
    assert rows_of(read(f"csv:{path}", "content", "class")) == [("c", "k")]


def test_nothing_is_left_in_the_cache(tmp_path: Path) -> None:
    read(f"parquet:{write_parquet(tmp_path / 'data.parquet')}")
    assert list((tmp_path / "cache").iterdir()) == []


def test_reading_writes_nothing_on_stdout_or_a_piped_stderr(tmp_path: Path) -> None:
    spec = f"csv:{write_csv(tmp_path / 'data.csv')}"
    call = f"read_source({spec!r}, None, None, target_columns=('label',))"
    code = f"from limpet.training.data.reading.sources import read_source; {call}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


# what a newcomer does wrong


def refused(kind: type[LimpetError], spec: str, *said: str, text: str | None = None, label: str | None = None) -> str:
    with pytest.raises(LimpetError) as caught:
        read(spec, text, label)
    assert type(caught.value) is kind, caught.value
    for each in said:
        assert each in caught.value.message
    assert caught.value.hint
    return caught.value.hint


def test_a_missing_column_is_answered_with_the_columns_there_are(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", header=("review", "stars"))
    hint = refused(DataError, f"csv:{path}", str(path), "no text column", "'review', 'stars'")
    assert hint == "--text COL --label COL"
    refused(DataError, f"csv:{path}", "no column 'body'", "'review', 'stars'", text="body")
    assert refused(DataError, f"csv:{path}", "no label column", text="review") == "--label COL"


def test_a_column_missing_in_the_evaluation_file_is_reported_for_that_file(tmp_path: Path) -> None:
    train = write_csv(tmp_path / "t.csv")
    other = write_csv(tmp_path / "e.csv", header=("text", "stars"))
    refused(DataError, f"csv:train={train},eval={other}", str(other), "no column 'label'", "'text', 'stars'")


@pytest.mark.parametrize("before", [0, 5, 2**20 - 1, 2**20])
def test_bytes_that_are_not_utf8_are_reported_with_file_and_offset(tmp_path: Path, before: int) -> None:
    path = tmp_path / "latin.csv"
    head = b"text,label\n" + b"a" * before
    path.write_bytes(head + b"caf\xe9,x\n")
    hint = refused(DataError, f"csv:{path}", str(path), "not UTF-8", "0xe9", f"offset {len(head) + 3} ")
    assert hint.startswith(f"iconv -f LATIN1 -t UTF-8 {path} >")


def test_a_character_cut_off_at_the_end_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    path.write_bytes(b'{"text": "caf\xc3')
    refused(DataError, f"jsonl:{path}", "0xc3 at offset 13")


def test_characters_across_chunks_are_utf8(tmp_path: Path) -> None:
    long = "a" * (2**20 - 15) + "é€😀" * 400_000
    path = write_csv(tmp_path / "long.csv", [(long, "x")])
    assert rows_of(read(f"csv:{path}")) == [(long, "x")]


def test_a_line_that_is_not_json_is_reported_by_number(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl")
    path.write_text(path.read_text() + '{"text": "x", "label"\n')
    refused(DataError, f"jsonl:{path}", str(path), "line 6")


def test_a_line_that_is_no_object_is_reported_by_number(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl")
    path.write_text(path.read_text() + "[1, 2]\n")
    refused(DataError, f"jsonl:{path}", "line 6 is not a JSON object")


def test_a_file_that_is_not_parquet_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_text("text,label\na,b\n")
    refused(DataError, f"parquet:{path}", "can't be read as parquet")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # texts with commas that nobody quoted
        ("Dear team refund 0, it is late,billing\nDear all,delivery\n", "row 1 has 3 fields, the header 2"),
        # quotes escaped as C does
        ('"He wrote \\"Dear team\\", it is late",billing\n', "row 1 has 3 fields, the header 2"),
        ('"He wrote \\"Dear team\\" again",billing\n', "row 1 has a quote that is not closed, or stands inside"),
        ("a,b\na,b,c,d\n\n \na\n", "row 2 has 4 fields, the header 2; 2 rows do not fit"),
        ("a,b\n\na\n", "row 2 has 1 field, the header 2"),
        ('a,b\n"never closed,b\nc,d\ne,f\n', "row 2 has 1 field, the header 2"),
        ('a,b\n"said "x" here",b\nc,d\n', "row 2 has a quote that is not closed, or stands inside"),
    ],
)
def test_a_csv_row_that_does_not_fit_its_header_is_refused_by_its_number(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"text,label\n{text}")
    hint = refused(DataError, f"csv:{path}", str(path), said)
    assert ('not \\"' in hint) == ("\\" in text)


@pytest.mark.parametrize(("separator", "noted"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_the_separator_of_a_csv_file_is_found_and_noted(tmp_path: Path, separator: str, noted: str) -> None:
    path = tmp_path / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows([("text", "label"), *ROWS])
    source = read(f"csv:{path}")
    assert rows_of(source) == ROWS
    assert source.notes == (f"data.csv: fields are separated by {noted}",)
    assert read(f"csv:{write_csv(tmp_path / 'commas.csv')}").notes == ()


def test_a_separator_that_the_rows_contradict_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text, as sent;label\na;x\nb, c, d;y\n")
    assert rows_of(read(f"csv:{path}", "text, as sent")) == [("a", "x"), ("b, c, d", "y")]


def test_a_csv_field_may_be_as_long_as_it_is_and_hold_lines_and_quotes(tmp_path: Path) -> None:
    rows = [("x" * 300_000, "a"), ('say "hi"\r\nthere\u2028\x0c', "b")]
    assert rows_of(read(f"csv:{write_csv(tmp_path / 'data.csv', rows)}")) == rows


def test_several_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    rows = [("a", "x", "b"), ("c", "y", "d")]
    csv_path = write_csv(tmp_path / "data.csv", rows, ("text", "label", "text"))  # type: ignore[arg-type]
    refused(DataError, f"csv:{csv_path}", "2 columns called 'text'")
    (tmp_path / "data.jsonl").write_text('{"text": "a", "label": "x", "text": "b"}\n')
    refused(DataError, f"jsonl:{tmp_path / 'data.jsonl'}", "line 1 has several columns called 'text'")
    table = pa.table([["a"], ["x"], ["b"]], names=["text", "label", "text"])
    pq.write_table(table, tmp_path / "data.parquet")
    refused(DataError, f"parquet:{tmp_path / 'data.parquet'}", "2 columns called 'text'")


def test_empty_columns_that_a_spreadsheet_left_at_the_right_are_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label,,\na,x,,\nb,y,,\n")
    assert rows_of(read(f"csv:{path}")) == [("a", "x"), ("b", "y")]


def test_json_lines_end_at_line_feeds_alone_and_cells_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [("a\u2028b\x85c\x0c", "x"), ("2024-01-31", "2024-01-31T00:00:00"), ("d", "NaN")]
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    path.write_bytes(("\r\n".join(lines) + "\n").encode())
    assert rows_of(read(f"jsonl:{path}")) == rows


def test_a_list_of_objects_is_read_as_json_lines_are(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"text": "a", "label": 1}, {"label": "x", "text": "b"}, {"text": "c"}], indent=1))
    assert rows_of(read(f"jsonl:{path}")) == [("a", 1), ("b", "x"), ("c", None)]


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_conversations_are_refused_for_what_they_are(tmp_path: Path, column: str) -> None:
    path = tmp_path / "data.jsonl"
    turns = [{"role": "user", "content": "What is 1+1?"}, {"role": "assistant", "content": "2"}]
    path.write_text(json.dumps({column: turns}) + "\n")
    hint = refused(DataError, f"jsonl:{path}", "holds conversations", repr(column))
    assert "--type generation" in hint


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_empty_file_is_called_empty(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"data.{kind}"
    path.touch()
    refused(DataError, f"{kind}:{path}", "is empty")


def test_a_file_without_rows_is_said_to_have_none(tmp_path: Path) -> None:
    refused(DataError, f"csv:{write_csv(tmp_path / 'data.csv', [])}", "data.csv has no rows")
    refused(DataError, f"parquet:{write_parquet(tmp_path / 'data.parquet', [])}", "data.parquet has no rows")
    (tmp_path / "data.jsonl").write_text("\n\n")
    refused(DataError, f"jsonl:{tmp_path / 'data.jsonl'}", "data.jsonl has no rows")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_missing_file_is_not_found(tmp_path: Path, kind: str) -> None:
    refused(NotFoundError, f"{kind}:{tmp_path}/none.{kind}", "There is no file")
    refused(NotFoundError, f"{kind}:train={tmp_path}/none.{kind},eval={tmp_path}/x", "There is no file")
    refused(NotFoundError, f"{kind}:{tmp_path}", "is a folder")


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "data",
        "csv:",
        "xml:data.xml",
        "hub:imdb@",
        "hub:a b",
        "csv:eval=x.csv",
        "csv:train=,eval=x",
        "csv:train=a,train=b",
    ],
)
def test_a_spec_of_another_form_is_a_usage_error(spec: str) -> None:
    refused(UsageError, spec)


def test_an_unknown_sample_is_answered_with_the_samples_there_are() -> None:
    hint = refused(
        NotFoundError, "sample:imdb", "bbc-news", "reuters-r8", "20newsgroups", "election-tweets", "rotten-tomatoes"
    )
    assert "sample:" in hint


HUB = """
import sys
from limpet.errors import LimpetError
from limpet.training.data.reading.sources import read_source
try:
    source = read_source(sys.argv[1], None, None, target_columns=("label",))
    print({part: list(zip(pool.texts, pool.targets)) for part, pool in source.pools.items()})
except LimpetError as error:
    print(type(error).__name__, error.message, error.hint)
"""


def read_offline(spec: str, home: Path) -> str:
    """Read in a new process, because the hub's libraries look at the environment once."""
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", HUB, spec], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.strip()


def cache_dataset(home: Path, repo: str, splits: dict[str, list[tuple[str, int]]]) -> None:
    """Put a dataset into the cache of `datasets` as if it had been fetched from the hub."""
    import datasets

    classes = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": datasets.Value("string"), "label": classes})
    folder = home / "datasets" / repo.replace("/", "___") / "default" / "0.0.0" / ("a" * 40)
    folder.mkdir(parents=True)
    info = datasets.DatasetInfo(features=features, splits=datasets.SplitDict(dataset_name="tiny"))
    for name, rows in splits.items():
        columns = {"text": [row[0] for row in rows], "label": [row[1] for row in rows]}
        table = datasets.Dataset.from_dict(columns, features=features).data.table
        with (
            pa.OSFile(str(folder / f"tiny-{name}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as out,
        ):
            out.write_table(table)
        info.splits.add(datasets.SplitInfo(name=name, num_examples=len(rows), dataset_name="tiny"))
    info.builder_name, info.dataset_name, info.config_name, info.version = "parquet", "tiny", "default", "0.0.0"
    info.write_to_directory(folder)


def test_a_hub_dataset_gives_class_names_and_skips_a_test_split_without_labels(tmp_path: Path) -> None:
    cache_dataset(
        tmp_path / "hf",
        "org/tiny",
        {"train": [("a", 1), ("b", 0)], "validation": [("c", 1)], "test": [("d", -1)]},
    )
    said = read_offline("hub:org/tiny", tmp_path / "hf")
    assert said == str({"train": [("a", "pos"), ("b", "neg")], "evaluation": [("c", "pos")]})


def test_a_hub_dataset_with_test_and_validation_gives_both(tmp_path: Path) -> None:
    cache_dataset(tmp_path / "hf", "org/tiny", {"train": [("a", 1)], "validation": [("c", 1)], "test": [("d", 0)]})
    said = read_offline("hub:org/tiny:default", tmp_path / "hf")
    assert said == str({"train": [("a", "pos")], "evaluation": [("d", "neg")], "validation": [("c", "pos")]})


def test_an_unreachable_hub_is_said_to_be_unreachable(tmp_path: Path) -> None:
    said = read_offline("hub:org/absent", tmp_path / "hf")
    assert said.startswith("UnavailableError The hub can't be reached for 'org/absent'")
    assert "parquet:PATH" in said
