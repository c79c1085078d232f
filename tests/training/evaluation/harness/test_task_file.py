"""Task files of the evaluation harness are data: whatever runs code or is not local is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from limpet.errors import IntegrityError, NotFoundError, UnavailableError, UsageError
from limpet.home import Home
from limpet.training.evaluation.harness import ask_task, library
from limpet.training.evaluation.harness.task_file import from_record, read_task_file
from tests.harness import CHOICES, WRITTEN, task_file


def test_a_task_is_what_its_file_says_with_the_digests_of_its_data(tmp_path: Path) -> None:
    task = read_task_file(task_file(tmp_path), 10)
    assert (task.kind, task.name, task.metric, task.size) == ("harness", "choices", "acc_norm", 10)
    assert task.files() == {"test": [str(tmp_path / "rows.jsonl")]}
    assert from_record(task.record, 10).identity == task.identity
    (tmp_path / "rows.jsonl").write_text('{"question": "the"}\n', encoding="utf-8")
    assert read_task_file(tmp_path / "choices.yaml", 10).identity != task.identity
    with pytest.raises(IntegrityError, match=r"'rows.jsonl' of the task 'choices' changed"):
        task.files()


def test_an_include_lies_in_the_folder_and_below_the_file_s_own_keys(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    common = {key: value for key, value in CHOICES.items() if key != "task"}
    (folder / "common.yaml").write_text(task_file(folder, {"task": "common", **common}).read_text(), encoding="utf-8")
    (folder / "mine.yaml").write_text("{include: common.yaml, task: mine, description: 'a '}", encoding="utf-8")
    task = read_task_file(folder / "mine.yaml")
    assert (task.name, task.config["description"], task.config["doc_to_text"]) == ("mine", "a ", "{{question}}")
    (tmp_path / "outside.yaml").write_text("{description: far}", encoding="utf-8")
    (folder / "mine.yaml").write_text("{include: ../outside.yaml, task: mine}", encoding="utf-8")
    with pytest.raises(UsageError, match="included from outside the task file's folder"):
        read_task_file(folder / "mine.yaml")
    (folder / "mine.yaml").write_text("{include: mine.yaml, task: mine}", encoding="utf-8")
    with pytest.raises(UsageError, match="it includes itself"):
        read_task_file(folder / "mine.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"process_docs": "utils.process"}, "'process_docs' runs code"),
        ({"process_results": "utils.process"}, "'process_results' runs code"),
        ({"custom_dataset": "utils.make"}, "'custom_dataset' runs code"),
        ({"unsafe_code": True}, "'unsafe_code' runs code"),
        ({"use_prompt": "promptsource:x"}, "'use_prompt' runs code"),
        ({"class": "utils.Task"}, "'class' runs code"),
        ({"fewshot_config": {"process_docs": "utils.process"}}, "'process_docs' runs code"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "'hf_evaluate' runs code"),
        (
            {"dataset_kwargs": {"data_files": "rows.jsonl", "trust_remote_code": True}},
            "'trust_remote_code' runs code",
        ),
        ({"filter_list": [{"name": "x", "filter": [{"function": "custom"}]}]}, "its filter is code"),
        ({"dataset_path": "hellaswag"}, "nothing is fetched"),
        ({"dataset_path": "loader.py"}, "nothing is fetched"),
        ({"dataset_name": "easy"}, "no dataset_name"),
        ({"dataset_kwargs": {"data_files": {"test": "https://example.org/rows.jsonl"}}}, "is not local"),
        ({"dataset_kwargs": {"data_files": {"test": "hf://datasets/a/b/rows.jsonl"}}}, "is not local"),
        ({"dataset_kwargs": {"data_dir": "rows"}}, "'data_dir' of its dataset_kwargs"),
        ({"dataset_kwargs": {}}, "names no data_files"),
        ({"test_split": "validation"}, "none of its data_files"),
        ({"group": "all"}, "not one task with a name"),
        ({"task": ["a", "b"]}, "not one task with a name"),
        ({"task": "../a"}, "no name of a task"),
        ({"smell": 1}, "'smell' is no key"),
        ({"output_type": "guess"}, "no output_type 'guess'"),
        ({"metric_list": [{"metric": "f1"}]}, "'f1' is none of single documents"),
        ({"metric_list": [{"metric": "acc", "aggregation": "median"}]}, "aggregated by 'median'"),
        ({"repeats": 3}, "repeats is 3"),
        ({"generation_kwargs": {"do_sample": True}}, "do_sample is True"),
        ({"generation_kwargs": {"temperature": 0.7}}, "temperature is 0.7"),
        ({"generation_kwargs": {"num_beams": 4}}, "'num_beams' is no setting"),
    ],
)
def test_what_runs_code_or_is_no_question_of_this_kind_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_task_file(task_file(tmp_path, **changes))


def test_a_tag_that_names_a_function_is_refused_and_its_module_is_never_read(tmp_path: Path) -> None:
    path = task_file(tmp_path)
    (tmp_path / "utils.py").write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    path.write_text(path.read_text() + "process_docs: !function utils.process\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"runs code .*!function"):
        read_task_file(path)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no task file .*none.yaml"):
        read_task_file(tmp_path / "none.yaml")
    path = task_file(tmp_path)
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(NotFoundError, match=r"no data file .*rows.jsonl"):
        read_task_file(path)


def test_without_the_library_one_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    library.part.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UnavailableError, match="need the package lm-eval") as raised:
        library.check_installed()
    assert raised.value.hint == "pip install 'limpet[harness]'"


def test_an_encoder_is_refused_with_the_reason(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is an encoder, and it asks for the next words of a decoder"):
        ask_task.check(home.backbone(), read_task_file(task_file(tmp_path, WRITTEN)))
