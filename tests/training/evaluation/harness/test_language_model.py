"""What lm-eval finds of a base and of a version here is what it finds of the same model by its own class."""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from limpet.errors import DataError, UsageError
from limpet.home import Home, init
from limpet.training.base import locate
from limpet.training.base.backbone import Backbone
from limpet.training.evaluation.general_ability import Answers, ask
from limpet.training.evaluation.harness import library
from limpet.training.evaluation.harness.task_file import read_task_file
from limpet.training.model.task_model import version_files
from tests.harness import CHOICES, DOCUMENTS, LAST_WORDS, TASKS, WRITTEN, lm_eval, task_file  # noqa: F401
from tests.training.adoption.test_trl_adapters import FIXTURE
from tests.training.generation.test_generation import a_home

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("lm_eval")]
NAMES = [str(task["task"]) for task in TASKS]


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = a_home(tmp_path_factory.mktemp("writing"), "llama")
    home.adapter.register("headlines", FIXTURE)
    return home


def plain_model(base: Path, adapter: Path | None) -> tuple[Any, Any]:
    """The model as transformers loads it, with an adapter by plain peft, and its tokenizer."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    if tokenizer.eos_token is None:
        # lm-eval's own class can do nothing without
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)
    return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval(), tokenizer


def by_lm_eval(folder: Path, name: str, model: tuple[Any, Any], **options: Any) -> tuple[list[dict[str, Any]], Any]:
    """Ask a task by lm-eval alone: its reader of files, its class and its loop; what it logs, and its scores."""
    with library.contained() as cache, pytest.MonkeyPatch.context() as patch:
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        patch.chdir(folder)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", Path(cache))
        tasks = TaskManager(include_path=str(folder), include_defaults=False).load([name])
        for task in tasks["tasks"].values():
            task.set_config(key="num_fewshot", value=task.get_config("num_fewshot") or 0)
            task.set_fewshot_seed(seed=1234)
        lm = HFLM(pretrained=model[0], tokenizer=model[1], batch_size=5, **options)
        found = evaluate(lm=lm, task_dict=tasks, bootstrap_iters=0)
    samples = sorted(found["samples"][name], key=lambda sample: int(sample["doc_id"]))
    return samples, found["results"][name]


def by_limpet(home: Home, folder: Path, name: str, *, adapter: bool, dtype: str = "float32") -> Answers:
    backbone: Backbone = replace(home.backbone(), evaluation_dtype=dtype)
    version = home.adapter.show("headlines@1") if adapter else None
    weights = (version.method, version_files(home.store, backbone, version)) if version else None
    return ask(home.store, backbone, read_task_file(folder / f"{name}.yaml"), weights=weights)


def check_same(ours: Answers, samples: list[dict[str, Any]], scores: Mapping[str, float], metric: str) -> None:
    assert len(ours.outcome.predictions) == len(samples) > 0
    for value, sample in zip(ours.outcome.predictions, samples, strict=True):
        expected = sample[metric]
        assert value == pytest.approx(list(expected) if isinstance(expected, tuple) else expected, rel=1e-4) or (
            value == [pytest.approx(expected, rel=1e-4), 1]
        )
    assert ours.score == pytest.approx(scores[f"{metric},none"], rel=1e-4)


@pytest.mark.parametrize("adapter", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("task", TASKS, ids=NAMES)
def test_every_kind_of_request_is_answered_as_by_lm_eval_s_own_class(
    writing: Home, tmp_path: Path, task: dict[str, Any], adapter: bool
) -> None:
    task_file(tmp_path, task)
    model = plain_model(writing.path.parent / "base", FIXTURE if adapter else None)
    samples, scores = by_lm_eval(tmp_path, task["task"], model)
    ours = by_limpet(writing, tmp_path, task["task"], adapter=adapter)
    check_same(ours, samples, scores, task["metric_list"][0]["metric"])


@pytest.mark.parametrize("metric", ["byte_perplexity", "bits_per_byte"])
def test_the_first_metric_of_the_file_is_the_one_that_is_taken(writing: Home, tmp_path: Path, metric: str) -> None:
    task_file(tmp_path, DOCUMENTS, metric_list=[{"metric": metric}])
    samples, scores = by_lm_eval(tmp_path, "documents", plain_model(writing.path.parent / "base", None))
    check_same(by_limpet(writing, tmp_path, "documents", adapter=False), samples, scores, metric)


def test_answers_that_are_written_are_the_same_texts(writing: Home, tmp_path: Path, spied: list[Any]) -> None:
    task_file(tmp_path, WRITTEN)
    texts = set()
    for adapter in (None, FIXTURE):
        samples, _ = by_lm_eval(tmp_path, "written", plain_model(writing.path.parent / "base", adapter))
        by_limpet(writing, tmp_path, "written", adapter=adapter is not None)
        assert spied.pop().answers == tuple(sample["resps"] for sample in samples)
        texts |= {str(sample["resps"]) for sample in samples}
    assert len(texts) > 1


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was found of every task that is asked, with the answers themselves."""
    from limpet.training.evaluation.harness import ask_task as asking

    found: list[Any] = []
    plain = asking.ask_task

    def watched(*arguments: Any, **options: Any) -> Any:
        found.append(plain(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(asking, "ask_task", watched)
    return found


def test_in_bfloat16_likelihoods_are_those_of_lm_eval_in_mixed_precision(
    writing: Home, tmp_path: Path, spied: list[Any]
) -> None:
    task_file(tmp_path, CHOICES)
    model = plain_model(writing.path.parent / "base", FIXTURE)
    samples, _ = by_lm_eval(tmp_path, "choices", model, mixed_precision_dtype="bfloat16")
    by_limpet(writing, tmp_path, "choices", adapter=True, dtype="bfloat16")
    for ours, sample in zip(spied.pop().answers, samples, strict=True):
        theirs = [float(response[0][0]) for response in sample["resps"]]
        assert [response[0][0] for response in ours] == pytest.approx(theirs, rel=0.03)


def test_the_base_is_as_before_and_answers_the_same_bits_again(writing: Home, tmp_path: Path) -> None:
    for task in TASKS:
        task_file(tmp_path, task)
        first = by_limpet(writing, tmp_path, task["task"], adapter=False)
        active = by_limpet(writing, tmp_path, task["task"], adapter=True)
        again = by_limpet(writing, tmp_path, task["task"], adapter=False)
        assert again.outcome.logits_digest == first.outcome.logits_digest != active.outcome.logits_digest
        assert again.plan_digest == first.plan_digest == active.plan_digest
    writing.backbone().check_unchanged()


@pytest.mark.sample
def test_smollm2_is_asked_as_by_lm_eval_s_own_class(tmp_path: Path, spied: list[Any]) -> None:
    home = init(tmp_path / "home", base="sample:smollm2", mlflow="off")
    model = plain_model(locate.check(home.store, home.base.show()), None)
    for task in TASKS:
        task_file(tmp_path, task)
        samples, scores = by_lm_eval(tmp_path, task["task"], model)
        ours = by_limpet(home, tmp_path, task["task"], adapter=False)
        check_same(ours, samples, scores, task["metric_list"][0]["metric"])
    assert spied.pop().answers == tuple(sample["resps"] for sample in samples)


@contextmanager
def offline() -> Iterator[None]:
    """No name is looked up and no address is called."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it went online")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def test_nothing_is_fetched_kept_printed_or_left_changed(
    writing: Home, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import utils
    from tqdm import tqdm

    for variable in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache" / "datasets")
    before = (utils.env, tqdm.__init__, logging.getLogger("lm_eval").level)
    capfd.readouterr()
    with offline(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for task in TASKS:
            task_file(tmp_path, task)
            by_limpet(writing, tmp_path, task["task"], adapter=False)
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "cache").exists()
    assert before == (utils.env, tqdm.__init__, logging.getLogger("lm_eval").level)


def test_a_template_that_reaches_for_python_is_refused(writing: Home, tmp_path: Path) -> None:
    task_file(tmp_path, CHOICES, doc_to_text="{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(DataError, match="unsafe"):
        by_limpet(writing, tmp_path, "choices", adapter=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"doc_to_text": "{{missing}}"}, "'missing' is undefined"),
        ({"doc_to_choice": "missing"}, "malformed"),
        ({"fewshot_split": "train", "num_fewshot": 1}, "train"),
    ],
)
def test_a_task_that_does_not_fit_its_data_says_so(
    writing: Home, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    task_file(tmp_path, CHOICES, **changes)
    with pytest.raises(DataError, match=said):
        by_limpet(writing, tmp_path, "choices", adapter=False)


def test_answers_that_leave_no_room_for_a_question_are_refused(writing: Home, tmp_path: Path) -> None:
    task_file(tmp_path, WRITTEN, generation_kwargs={"until": ["moon"], "max_gen_toks": 4000})
    with pytest.raises(UsageError, match="leave no room for a question"):
        by_limpet(writing, tmp_path, "written", adapter=False)
    task_file(tmp_path, LAST_WORDS, doc_to_target="{{(' ' + question) * 500}}")
    with pytest.raises(DataError, match="can be scored"):
        by_limpet(writing, tmp_path, "last-words", adapter=False)
