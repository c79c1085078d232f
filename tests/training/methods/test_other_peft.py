"""`peft:<NAME>`: the fields of peft's configuration are settings, read by their types; what can't work says why."""

from __future__ import annotations

from typing import Any

import pytest

from limpet.errors import UsageError
from limpet.home import Home
from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.learning.settings import TrainingSettings


@pytest.mark.parametrize(
    ("method", "typed", "meant"),
    [
        ("peft:loha", {"r": "4", "target_modules": "query,value"}, {"r": 4, "target_modules": ["query", "value"]}),
        ("peft:oft", {"coft": "true", "eps": "1e-4"}, {"coft": True, "eps": 1e-4}),
        ("peft:vera", {"r": "4", "target_modules": ".*query"}, {"r": 4, "target_modules": [".*query"]}),
        ("peft:road", {"variant": "road_2"}, {"variant": "road_2"}),
        ("peft:loha", {"rank_pattern": '{"query": 2}'}, {"rank_pattern": {"query": 2}}),
        ("peft:loha", {"layers_to_transform": "1"}, {"layers_to_transform": 1}),
        ("peft:trainable_tokens", {"token_indices": "7,8"}, {"token_indices": [7, 8]}),
    ],
)
def test_settings_are_read_by_the_types_of_peft_s_fields(
    home: Home, method: str, typed: dict[str, str], meant: dict[str, Any]
) -> None:
    model = home.backbone().model
    resolved = methods.get(method).resolve(model, typed)
    assert resolved == methods.get(method).resolve(model, meant)
    assert {name: resolved[name] for name in meant} == meant


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("peft:loha", {"rnk": "3"}, "has no setting 'rnk'"),
        ("peft:loha", {"module_dropot": "0.1"}, "Did you mean module_dropout"),
        ("peft:loha", {"r": "four"}, "must be int"),
        ("peft:loha", {"r": True}, "must be int"),
        ("peft:oft", {"coft": "perhaps"}, "must be bool"),
        ("peft:road", {"variant": "road_9"}, "choose from road_1, road_2"),
        ("peft:loha", {"modules_to_save": "classifier"}, "has no setting 'modules_to_save'"),
        ("peft:loha", {"task_type": "SEQ_CLS"}, "has no setting 'task_type'"),
        ("peft:loha", {"target_modules": "(a+)+b"}, "take for ever"),
        ("peft:boft", {"boft_block_size": "0"}, "refuses its settings"),
        ("peft:trainable_tokens", {}, "needs the ids of the tokens"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(home: Home, method: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        methods.get(method).resolve(home.backbone().model, settings)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("peft:adalora", "loop of its own"),
        ("peft:xlora", "trained before"),
        ("peft:poly", "several tasks"),
        ("peft:multitask_prompt_tuning", "several tasks"),
        ("peft:cpt", "causal language model"),
        ("peft:shadow", "second model"),
        ("peft:adaption_prompt", "causal language model"),
    ],
)
def test_what_can_not_work_here_is_refused_before_training(home: Home, method: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        home.train("place", TrainingSettings(method))
    assert refused.value.hint == "--method lora"


def test_a_setting_that_would_train_the_base_itself_is_refused(home: Home) -> None:
    model = home.backbone().model
    before = module_digest(model)
    method = methods.get("peft:boft")
    with pytest.raises(UsageError, match="the base's own biases"):
        method.attach(model, method.resolve(model, {"bias": "all"}))
    home.backbone().check_unchanged()
    assert module_digest(model) == before


def test_a_refused_attach_leaves_the_base_as_it_was(home: Home) -> None:
    model = home.backbone().model
    names, before = [name for name, _ in model.named_modules()], module_digest(model)
    method = methods.get("peft:miss")
    # the first layers fit, and are replaced before one that does not
    config = method.resolve(model, {"r": "48", "target_modules": "query,output.dense"})
    with pytest.raises(UsageError, match="does not attach"):
        method.attach(model, config)
    assert [name for name, _ in model.named_modules()] == names
    assert module_digest(model) == before
    assert not hasattr(model, "peft_config")


def test_it_is_trained_kept_and_told_apart(home: Home) -> None:
    version = home.train(
        "place", TrainingSettings("peft:LOHA", epochs=1, dtype="float32", method_settings={"r": "2"})
    ).version
    assert (version.method, version.config["method"]["r"]) == ("peft:loha", 2)
    assert version.config["method"]["exclude_modules"] == ["pooler.dense"]
    assert [one.reference for one in home.adapter.list(method="peft:loha").items] == [version.reference]
