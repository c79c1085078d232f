"""What a training may be asked for: accumulation, checkpointing, schedules, patience, weights of labels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limpet.errors import InterruptedRunError, UsageError
from limpet.home import Home, init
from limpet.training.batching.batches import microbatches
from limpet.training.heads.base import HeadConfig
from limpet.training.heads.class_weights import balanced_weights, positive_weights, weighted_cross_entropy
from limpet.training.heads.multi_label import MultiLabelHead
from limpet.training.learning.learn import learn
from limpet.training.learning.optimization.schedules import learning_rate_factor
from limpet.training.learning.runs.run_folder import Staged
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from tests import tiny
from tests.training.learning.test_learn import QUICK, StopAt, contents, staged
from tests.training.typed_data import write_rows


def tensors(result: Staged) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": tensor
        for name, path in result.files.items()
        if path.suffix == ".safetensors"
        for key, tensor in load_file(path).items()
    }


def difference(one: Staged, other: Staged) -> float:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_four_batches_of_four_make_the_step_of_one_batch_of_sixteen(home: Home) -> None:
    whole = staged(home, settings=replace(QUICK, batch_size=16))
    parts = staged(home, settings=replace(QUICK, batch_size=4, accumulate=4))
    assert parts.draft.cost["optimiser_steps"] == whole.draft.cost["optimiser_steps"]
    assert 0 < difference(whole, parts) < 1e-4


def test_a_microbatch_has_no_more_texts_than_were_asked_for() -> None:
    assert microbatches([8, 8, 8, 8, 8], [4, 3, 2, 1, 0], 4096, max_texts=2) == [[4, 3], [2, 1], [0]]
    assert microbatches([8, 8, 8], [2, 0, 1], 4096, max_texts=3) == [[2, 0, 1]]


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("bert", "lora"),
        ("t5", "lora"),
        *(("llama", method) for method in ("lora", "bottleneck", "prompt", "full", "partial")),
    ],
)
def test_checkpointing_changes_no_bit(tmp_path: Path, kind: str, method: str) -> None:
    base = tiny.tiny_base(tmp_path / "base", kind)
    home = init(tmp_path / "home", base=str(base), mlflow="off")
    home.task.add("place", f"csv:{tiny.tiny_csv(tmp_path / 'place.csv', rows=45)}", max_length=16)
    settings = replace(QUICK, method=method, epochs=1)
    plain = staged(home, settings=settings)
    again = staged(home, settings=replace(settings, checkpointing=True))
    assert again.draft.config["training"]["checkpointing"] is True
    assert contents(again).keys() == contents(plain).keys()
    assert difference(plain, again) == 0
    assert home.backbone().model.config.to_dict() == init_config(base)


def init_config(base: Path) -> dict[str, object]:
    from limpet.training.base.pretrained import load_pretrained

    family = {"bert": "encoder", "t5": "encoder-decoder"}.get(load_type(base), "decoder")
    model = load_pretrained(base, family, dtype=torch.float32, attn_implementation="eager").model
    return model.config.to_dict()


def load_type(base: Path) -> str:
    from limpet.training.base.pretrained import load_config

    return str(load_config(base).model_type)


def test_checkpointing_keeps_less_for_the_backward_pass(tmp_path: Path) -> None:
    from limpet.training import methods
    from limpet.training.heads import Head
    from limpet.training.heads.base import HeadConfig
    from limpet.training.model.activation_checkpointing import activation_checkpointing
    from limpet.training.model.task_model import TaskModel

    base = tiny.tiny_base(tmp_path / "base", "llama")
    backbone = init(tmp_path / "home", base=str(base), mlflow="off").backbone()
    method = methods.get("lora")
    module = method.attach(backbone.model, method.resolve(backbone.model, {}))
    model = TaskModel(module, Head(HeadConfig("classification", "last", 32, 3)), frozenset()).train()
    ids = torch.full((4, 32), 7)

    def kept() -> int:
        seen: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            seen[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
        outputs.sum().backward()
        return sum(seen.values())

    without = kept()
    with activation_checkpointing(model):
        assert kept() < 0.5 * without
    assert kept() == without


def test_a_prefix_can_not_be_computed_again(tmp_path: Path) -> None:
    base = tiny.tiny_base(tmp_path / "base", "llama")
    home = init(tmp_path / "home", base=str(base), mlflow="off")
    home.task.add("place", f"csv:{tiny.tiny_csv(tmp_path / 'place.csv', rows=45)}", max_length=16)
    with pytest.raises(UsageError, match="A prefix is added"):
        staged(home, settings=replace(QUICK, method="prefix", checkpointing=True))


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("linear", [0.5, 1.0, 8 / 9, 7 / 9, 2 / 9, 1 / 9]),
        ("cosine", [0.5, 1.0, 0.9698, 0.8830, 0.1170, 0.0302]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_follows_its_schedule(schedule: str, factors: list[float]) -> None:
    steps = [0, 1, 2, 3, 8, 9]
    for warmup in (0.2, 2):
        found = [learning_rate_factor(step, 10, warmup, schedule=schedule) for step in steps]
        assert found == pytest.approx(factors, abs=1e-4)


def test_training_ends_when_patience_does(home: Home) -> None:
    result = staged(home, settings=replace(QUICK, epochs=30, learning_rate=2e-2, patience=2))
    history = result.draft.metrics["history"]
    best = max(range(len(history)), key=lambda at: (history[at]["validation"], -history[at]["validation_loss"]))
    assert len(history) < 30 and len(history) - 1 - best == 2


def test_the_best_evaluation_within_an_epoch_is_kept(home: Home) -> None:
    settings = replace(QUICK, epochs=2, evaluate_every=2, learning_rate=5e-3)
    result = staged(home, settings=settings)
    history = result.draft.metrics["history"]
    steps = result.draft.cost["optimiser_steps"]
    assert [entry["step"] for entry in history if "step" in entry] == [
        step for step in range(2, steps + 1, 2) if step % (steps // 2)
    ]
    assert [entry["epoch"] for entry in history if "step" not in entry] == [1, 2]
    plain = staged(home, settings=replace(settings, evaluate_every=None))
    assert [e["loss"] for e in history if "step" not in e] == [e["loss"] for e in plain.draft.metrics["history"]]


def test_an_interrupted_run_with_evaluations_in_between_goes_on_to_the_same_bits(home: Home, tmp_path: Path) -> None:
    settings = replace(QUICK, epochs=2, evaluate_every=2, patience=9, schedule="cosine", warmup=3, accumulate=2)
    record = home.task.show("place")
    run = TrainingRun(home.store, home.backbone(), record, settings)
    whole = contents(learn(run))
    (run.folder / "staged").rename(tmp_path / "undisturbed")
    with pytest.raises(InterruptedRunError):
        learn(replace(run, progress=StopAt(3)))
    assert contents(learn(run, resume=True)) == whole


def test_balanced_weights_are_those_of_the_formula() -> None:
    targets = [torch.tensor(label) for label in (0, 0, 0, 1)]
    assert balanced_weights(targets, 3).tolist() == pytest.approx([4 / (2 * 3), 4 / (2 * 1), 0.0])
    words = [torch.tensor([0, 0, -100]), torch.tensor([1, 0])]
    assert balanced_weights(words, 2).tolist() == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])
    outputs, ids = torch.randn(4, 3), torch.stack(targets)
    one_by_one = [torch.nn.functional.cross_entropy(o[None], t[None]) for o, t in zip(outputs, ids, strict=True)]
    weights = balanced_weights(targets, 3)
    expected = sum(weights[t] * loss for t, loss in zip(ids, one_by_one, strict=True)) / 4
    assert float(weighted_cross_entropy(outputs, ids, weights)) == pytest.approx(float(expected), rel=1e-5)


def test_a_rare_label_is_more_probable_where_it_weighs_more(home: Home, tmp_path: Path) -> None:
    rows = tiny.tiny_csv(tmp_path / "rare.csv", labels=("sea",) * 8 + ("sky",), rows=135)
    home.task.add("rare", f"csv:{rows}", max_length=16)
    probable = []
    for weights in (None, "balanced"):
        settings = replace(QUICK, class_weights=weights)
        version = home.train("rare", settings, monitor=False).version
        [answer] = home.predict(version.reference, ["star moon wing the of"])
        probable.append(answer.probabilities[version.labels.index("sky")])
    assert probable[1] > 2 * probable[0]


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"accumulate": 0}, "1 or more"),
        ({"schedule": "sine"}, "one of linear, cosine, constant"),
        ({"warmup": 1.5}, "a share of all steps below 1, or a number of steps"),
        ({"warmup": -0.1}, "a share of all steps below 1, or a number of steps"),
        ({"patience": 0}, "1 or more"),
        ({"evaluate_every": 0}, "1 or more"),
        ({"class_weights": "unbalanced"}, "balanced"),
        ({"optimizer": "sgd"}, "one of adamw, adamw-8bit"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings: dict[str, object], allowed: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingSettings(**settings)
    assert caught.value.hint == f"it must be {allowed}"


def test_class_weights_of_a_task_without_classes_are_refused(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("text,label\n" + "".join(f"text the {n} of {n * 7 % 13},{n / 3}\n" for n in range(40)))
    home.task.add("numbers", f"csv:{path}", type="regression", max_length=16)
    with pytest.raises(UsageError, match="tasks with labels"):
        staged(home, "numbers", replace(QUICK, class_weights="balanced"))


def test_labels_that_are_there_weigh_more_where_they_are_rare(home: Home, tmp_path: Path) -> None:
    targets = [torch.tensor(row) for row in ([1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0])]
    assert positive_weights(targets).tolist() == [1.0, 1.0, 3.0]
    home.task.add("some", write_rows(tmp_path / "rows.jsonl", "multi-label"), type="multi-label", max_length=16)
    plain, weighed = (staged(home, "some", replace(QUICK, class_weights=w)) for w in (None, "balanced"))
    assert weighed.draft.config["training"]["class_weights"] == "balanced"
    assert difference(plain, weighed) > 0
    head = MultiLabelHead(HeadConfig("multi-label", "mean", 4, 3))
    head.class_weights = positive_weights(targets)
    # a logit of 0 costs log 2, and where a label of weight 3 is there, three times that
    loss = head.loss(torch.zeros(4, 3), torch.stack(targets))
    assert float(loss) == pytest.approx(math.log(2) * 14 / 12)


@pytest.mark.parametrize(
    ("method", "settings", "why"),
    [
        ("linear-probe", {"checkpointing": True}, "nothing but a head"),
        ("icl", {"checkpointing": True}, "'icl' trains nothing, so --checkpointing has no effect"),
        ("icl", {"evaluate_every": 3}, "so --evaluate-every has no effect"),
    ],
)
def test_a_setting_with_nothing_to_act_on_is_refused(
    tmp_path: Path, method: str, settings: dict[str, Any], why: str
) -> None:
    base = tiny.tiny_base(tmp_path / "base", "llama")
    home = init(tmp_path / "home", base=str(base), mlflow="off")
    home.task.add("place", f"csv:{tiny.tiny_csv(tmp_path / 'place.csv', rows=45)}", max_length=16)
    with pytest.raises(UsageError, match=why) as caught:
        staged(home, settings=replace(QUICK, method=method, **settings))
    assert str(caught.value.hint).startswith("leave out --")


def test_what_is_done_by_default_is_recorded_as_before_there_was_a_choice(home: Home) -> None:
    result = staged(home)
    assert set(result.draft.config["training"]) == {
        "epochs",
        "learning_rate",
        "batch_size",
        "dtype",
        "max_seconds",
        "weight_decay",
    }
    assert not {"accumulate", "warmup", "schedule", "checkpointing"} & QUICK.recorded().keys()
    other = replace(QUICK, accumulate=2, warmup=5.0, patience=3)
    assert TrainingSettings.from_record(other.recorded()) == other
