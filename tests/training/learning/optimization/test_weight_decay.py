"""Weight decay is of matrices: norms, biases, scales and factors stay where their gradients put them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from limpet.errors import UsageError
from limpet.home import Home
from limpet.registry import versions
from limpet.training import methods
from limpet.training.learning.learn import learn
from limpet.training.learning.loop import LoopSettings, Validation, fit
from limpet.training.learning.optimization.weight_decay import decayed_names
from limpet.training.learning.runs.checkpoint import Checkpoint
from limpet.training.learning.settings import TrainingSettings
from limpet.training.learning.training_run import TrainingRun
from limpet.training.progress import SILENT
from tests.tiny import tiny_base
from tests.training.methods.table import load_tiny

# their parts of the base's own matrices begin as those are
UNTRIED = {"icl", "full", "partial", "probe"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tiny(tiny_base(tmp_path_factory.mktemp("base") / "bert"))


class Still:
    """An objective of one step an epoch without any gradient, so that nothing but decay moves a parameter."""

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        return [[0]]

    def losses(self, model: Any, batch: Any) -> Any:
        yield sum(p.sum() * 0.0 for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", sorted(set(methods.names()) - UNTRIED))
def test_what_changes_nothing_at_1_or_shifts_is_not_decayed(tiny: Any, name: str) -> None:
    method = methods.get(name)
    try:
        config = method.resolve(tiny, method.example)
    except UsageError:
        pytest.skip("the method learns no task here")
    module = method.attach(tiny, config)
    try:
        decayed = decayed_names(module)
        for parameter_name, parameter in module.named_parameters():
            values = parameter.detach()
            constant = bool((values == values.flatten()[0]).all()) and float(values.flatten()[0]) != 0
            vector = max(values.shape, default=1) == values.numel()
            if parameter.requires_grad and (constant or (vector and ".lora_" not in parameter_name)):
                assert parameter_name not in decayed
    finally:
        method.detach(module)


@pytest.mark.parametrize(("name", "moved"), [("ia3", False), ("lora", True)])
def test_decay_pulls_matrices_and_leaves_factors(tiny: Any, tmp_path: Path, name: str, moved: bool) -> None:
    method = methods.get(name)
    module = method.attach(tiny, method.resolve(tiny, {"r": 1} if name == "lora" else {}))
    try:
        before = {key: p.detach().clone() for key, p in module.named_parameters() if p.requires_grad}
        settings = LoopSettings(3, 0.1, 1, 0, "float32", weight_decay=0.5)
        scores = iter((0.1, 0.2, 0.3))
        validate = lambda: Validation(next(scores), 0.0)  # noqa: E731
        fit(
            module,
            Still(),
            settings,
            validate=validate,
            checkpoint=Checkpoint(tmp_path / "state", 1000),
            progress=SILENT,
        )
        after = dict(module.named_parameters())
        smaller = [float(after[key].abs().sum()) < float(value.abs().sum()) for key, value in before.items()]
        kept = [torch.equal(after[key], value) for key, value in before.items()]
        # B of a LoRA begins at 0; A of rank 1 is one row, and a matrix all the same
        assert any(smaller) is moved and all(kept) is not moved
    finally:
        method.detach(module)


def test_of_a_whole_model_norms_and_biases_are_left(tiny: Any) -> None:
    decayed = decayed_names(methods.get("full").attach(tiny, {}))
    assert "encoder.layer.0.attention.self.query.weight" in decayed
    assert "embeddings.word_embeddings.weight" in decayed
    assert not [name for name in decayed if "LayerNorm" in name or name.endswith("bias")]


def test_decay_is_a_setting_and_recorded(home: Home) -> None:
    task, backbone = home.task.show("place"), home.backbone()
    drafts = []
    for decay in (0.0, 0.9):
        settings = TrainingSettings(epochs=2, batch_size=8, dtype="float32", learning_rate=0.05, weight_decay=decay)
        drafts.append(learn(TrainingRun(home.store, backbone, task, settings)))
    assert [one.draft.config["training"]["weight_decay"] for one in drafts] == [0.0, 0.9]
    made = [versions.register(home.store, one.draft, one.files)[0] for one in drafts]
    assert made[0].digest != made[1].digest
    with pytest.raises(UsageError, match="weight decay can't be 1"):
        TrainingSettings(weight_decay=1.0)


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        ([(0.8, 0.7), (0.8, 0.5), (0.8, 0.6)], 2),
        ([(0.8, 0.7), (0.9, 0.9), (0.8, 0.1)], 2),
        ([(0.8, 0.5), (0.8, 0.5)], 1),
        ([(0.8, float("nan")), (0.8, 0.5), (0.8, float("inf"))], 2),
    ],
)
def test_of_epochs_that_score_the_same_the_one_with_the_smallest_loss_is_kept(
    tmp_path: Path, epochs: list[tuple[float, float]], best: int
) -> None:
    told = iter([Validation(score, loss) for score, loss in epochs])
    settings = LoopSettings(len(epochs), 0.1, 1, 0, "float32")
    checkpoint = Checkpoint(tmp_path / "state", 1000)
    fitted = fit(
        torch.nn.Linear(1, 1), Still(), settings, validate=lambda: next(told), checkpoint=checkpoint, progress=SILENT
    )
    assert fitted.best_epoch == best
    assert fitted.history[1].get("validation_loss") == epochs[1][1]
