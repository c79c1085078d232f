"""Asks a decoder a task of the evaluation harness, alone or under a version's weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch

from limpet.errors import DataError, LimpetError, UsageError
from limpet.registry.formats.canonical import digest_json
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.training.base.backbone import Backbone
from limpet.training.base.precision import autocast
from limpet.training.evaluation.harness import library
from limpet.training.evaluation.harness.language_model import Answerer, AskedModel, language_model
from limpet.training.evaluation.harness.task_file import HarnessTask
from limpet.training.metrics.ability import AGGREGATIONS
from limpet.training.model.task_model import TaskModel
from limpet.training.progress import SILENT, Progress

__all__ = ["HarnessAnswers", "ask_task", "check"]

_SEED = 1234
"""What lm-eval draws demonstrations by."""
_WRITTEN = 256
"""Tokens of an answer at the most, where the file does not say; lm-eval's own."""


@dataclass(frozen=True)
class HarnessAnswers:
    """What was found of a task, document by document.

    Args:
        values: What each document was scored, by the task's metric.
        targets: What is right, as the task has it.
        answers: What the model answered: log-likelihoods of choices or documents, or what was written.
        requests_digest: Stands for every request, in order, and the release of lm-eval that made them.
        seconds: How long it took on a clock.
    """

    values: tuple[JsonValue, ...]
    targets: tuple[JsonValue, ...]
    answers: tuple[JsonValue, ...]
    requests_digest: str
    seconds: float


def check(backbone: Backbone, task: HarnessTask) -> None:
    """Refuse what this base can't be asked, before anything is learned.

    Raises:
        UsageError: The base is no decoder with a language-model head, or has too few positions for the answers.
        UnavailableError: lm-eval is not installed.
    """
    if backbone.record.family != "decoder" or backbone.lm_head is None:
        is_decoder = backbone.record.family == "decoder"
        why = "has no language-model head" if is_decoder else f"is an {backbone.record.family}"
        raise UsageError(
            f"The task {task.name!r} of the evaluation harness can't be asked: the base {backbone.record.name!r} "
            f"{why}, and it asks for the next words of a decoder.",
            "limpet init --home FOLDER --base sample:smollm2",
        )
    library.check_installed()


def ask_task(
    backbone: Backbone, task: HarnessTask, model: TaskModel, *, progress: Progress = SILENT
) -> HarnessAnswers:
    """Ask a task of a base under the weights that `model` has.

    Args:
        backbone: The base in memory.
        task: The question.
        model: The base, with a method's weights and the head of its words.
        progress: Receives every batch.

    Raises:
        DataError: Its templates don't fit its data, or an answer is too long for the base.
        UnavailableError: lm-eval is not installed.
    """
    started = time.perf_counter()
    dtype = backbone.evaluation_dtype
    answerer = Answerer(backbone, model, progress)
    with library.contained() as folder, torch.inference_mode(), autocast(backbone.device, dtype):
        lm = language_model(answerer, backbone.tokenizer)
        _check_room(task, lm.max_length)
        with _as_data_errors(task):
            asked = _lm_eval_task(task, folder)
            documents = _evaluated(lm, asked, task)
    values = tuple(_value(task.metric, document[task.metric]) for document in documents)
    requests = [[list(arguments) for arguments in document["arguments"]] for document in documents]
    return HarnessAnswers(
        values=values,
        targets=tuple(_plain(document["target"]) for document in documents),
        answers=tuple(_plain(document["resps"]) for document in documents),
        requests_digest=digest_json({"library": library.release(), "requests": _plain(requests)}),
        seconds=time.perf_counter() - started,
    )


def _lm_eval_task(task: HarnessTask, folder: str) -> object:
    """Return the task as lm-eval has it, with its data read."""
    reading = {**task.config["dataset_kwargs"], "data_files": task.files(), "cache_dir": folder}
    config = {**task.config, "dataset_kwargs": reading, "num_fewshot": task.config.get("num_fewshot", 0)}
    asked = library.part("lm_eval.api.task").ConfigurableTask(config=config)
    asked.set_fewshot_seed(seed=_SEED)
    return cast(object, asked)


def _evaluated(lm: AskedModel, asked: object, task: HarnessTask) -> list[JsonObject]:
    """Return what lm-eval logs of every document, under its first filter."""
    evaluator = library.part("lm_eval.evaluator")
    tasks = {"tasks": {task.name: asked}, "groups": {}, "group_map": {}}
    outcome = evaluator.evaluate(lm=lm, task_dict=tasks, limit=task.size, bootstrap_iters=0, log_samples=True)
    return sorted(outcome["samples"][task.name], key=lambda document: int(document["doc_id"]))


def _check_room(task: HarnessTask, positions: int) -> None:
    longest = int((task.config.get("generation_kwargs") or {}).get("max_gen_toks", _WRITTEN))
    if task.config["output_type"] == "generate_until" and longest >= positions:
        raise UsageError(
            f"Answers of up to {longest} tokens of the task {task.name!r} leave no room for a question in the base's "
            f"{positions} positions.",
            f"generation_kwargs: {{max_gen_toks: {max(1, positions // 4)}}}",
        )


@contextmanager
def _as_data_errors(task: HarnessTask) -> Iterator[None]:
    """Say what lm-eval, its templates and its readers of data raise, in one sentence; the model's own errors pass."""
    from datasets.exceptions import DatasetsError
    from jinja2 import TemplateError

    try:
        yield
    except LimpetError:
        raise
    except (
        TemplateError,
        DatasetsError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"The task {task.name!r} of the evaluation harness can't be asked: {said}.",
            "hold its templates and its splits against the columns of its data",
        ) from error


def _value(metric: str, value: float | tuple[float, int]) -> JsonValue:
    """Return what a document was scored: a number, or a log-likelihood with what it is of."""
    if isinstance(value, tuple):
        return [float(value[0]), int(value[1])]
    return float(value) if AGGREGATIONS[metric] == "mean" else [float(value), 1]


def _plain(value: object) -> JsonValue:
    """Return what lm-eval logs as JSON: arrays and tuples as lists, and what JSON has not as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
