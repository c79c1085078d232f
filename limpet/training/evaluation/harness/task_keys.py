"""What a task file of the evaluation harness may say: everything that is data, and nothing that runs code."""

from __future__ import annotations

from typing import NoReturn

from limpet.errors import UsageError
from limpet.registry.formats.json_values import JsonObject, JsonValue
from limpet.training.metrics.ability import AGGREGATIONS

__all__ = ["OUTPUT_TYPES", "RUNS_CODE", "checked_config"]

OUTPUT_TYPES = {
    "multiple_choice": "acc",
    "loglikelihood": "perplexity",
    "loglikelihood_rolling": "word_perplexity",
    "generate_until": "exact_match",
}
"""What lm-eval can ask, with the metric that is the first where the file names none."""
RUNS_CODE = frozenset(
    {
        "class",
        "custom_dataset",
        "doc_to_audio",
        "doc_to_image",
        "process_docs",
        "process_results",
        "trust_remote_code",
        "unsafe_code",
        "use_prompt",
    }
)
"""Keys whose values are Python, or modules that lm-eval imports; images and audio need code of their own."""
_KEYS = frozenset(
    {
        "dataset_kwargs",
        "dataset_name",
        "dataset_path",
        "description",
        "doc_to_choice",
        "doc_to_decontamination_query",
        "doc_to_target",
        "doc_to_text",
        "fewshot_config",
        "fewshot_delimiter",
        "fewshot_split",
        "filter_list",
        "gen_prefix",
        "generation_kwargs",
        "metadata",
        "metric_list",
        "num_fewshot",
        "output_type",
        "repeats",
        "should_decontaminate",
        "tag",
        "target_delimiter",
        "task",
        "task_alias",
        "test_split",
        "training_split",
        "validation_split",
    }
)
_GREEDY: dict[str, tuple[JsonValue, ...]] = {"do_sample": (False,), "temperature": (0,), "repeats": (1, None)}
_GENERATION = {"until", "max_gen_toks", "do_sample", "temperature"}


def checked_config(called: str, content: JsonObject) -> JsonObject:
    """Return a task file's content as lm-eval is told it: with its first metric and its first filter alone.

    Args:
        called: What the file is called in messages.
        content: Its keys and values, what it includes among them.

    Raises:
        UsageError: It runs code, or says what an ability task has not.
    """
    config = {key: value for key, value in content.items() if value is not None}
    _no_code(called, config)
    if "group" in config or not isinstance(config.get("task"), str):
        _refuse(called, "it is not one task with a name", "task: NAME; name the file of one task, not of a group")
    if unknown := sorted(set(config) - _KEYS):
        _refuse(called, f"{unknown[0]!r} is no key of a task", f"the keys are {', '.join(sorted(_KEYS))}")
    config.setdefault("output_type", "generate_until")
    writing = _mapping(called, config, "generation_kwargs")
    if unknown := sorted(set(writing) - _GENERATION):
        _refuse(
            called, f"{unknown[0]!r} is no setting of writing here", f"there are {', '.join(sorted(_GENERATION))}"
        )
    for key, allowed in _GREEDY.items():
        if (value := (writing | config).get(key, allowed[0])) not in allowed:
            _refuse(called, f"{key} is {value!r}, and answers are the most probable words", f"{key}: {allowed[0]}")
    for key in ("metric_list", "filter_list"):
        if key in config:
            config[key] = _first_mapping(called, key, config[key])
    for metric in config.get("metric_list", []):
        _check_metric(called, metric)
    for step in (step for pipeline in config.get("filter_list", []) for step in pipeline.get("filter") or []):
        if not isinstance(step, dict) or step.get("function") == "custom":
            _refuse(called, "its filter is code of its own", "filter: [{function: regex, regex_pattern: ...}]")
    return config


def _no_code(called: str, content: JsonValue) -> None:
    """Refuse keys that stand for code, wherever they are."""
    if isinstance(content, dict):
        for key, value in content.items():
            # false is what says that nothing is run
            if (key in RUNS_CODE and value not in (None, False)) or (key == "hf_evaluate" and value):
                _refuse(
                    called, f"{key!r} runs code", "write it without, with Jinja templates over the data's columns"
                )
            _no_code(called, value)
    elif isinstance(content, list):
        for value in content:
            _no_code(called, value)


def _check_metric(called: str, metric: JsonObject) -> None:
    name = metric.get("metric")
    usual = AGGREGATIONS.get(str(name))
    if usual is not None and metric.get("aggregation", usual) != usual:
        _refuse(called, f"{name} is aggregated by {metric['aggregation']!r}", f"aggregation: {usual}")


def _mapping(called: str, config: JsonObject, key: str) -> JsonObject:
    value = config.get(key, {})
    if not isinstance(value, dict):
        _refuse(called, f"its {key} is no mapping", f"{key}: {{...}}")
    return dict(value)


def _first_mapping(called: str, key: str, value: JsonValue) -> list[JsonObject]:
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        _refuse(called, f"its {key} is no list of mappings", f"{key}: [{{...}}]")
    return [dict(value[0])]


def _refuse(called: str, why: str, hint: str) -> NoReturn:
    raise UsageError(f"The task file {called!r} can't be asked: {why}.", hint)
