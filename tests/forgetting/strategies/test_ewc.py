"""The penalty of elastic weight consolidation: one quadratic for each earlier task, kept as a single one."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from limpet.forgetting.strategies import Context
from limpet.forgetting.strategies.ewc import QuadraticPenalty, fisher
from limpet.home import Home
from limpet.registry.records import tasks
from limpet.training.data.stored_splits import read_split
from limpet.training.learning.runs.run_folder import Start
from limpet.training.learning.settings import TrainingSettings
from limpet.training.model.task_model import active
from limpet.training.progress import SILENT


def test_two_quadratics_are_one_up_to_a_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.rand(5, generator=generator) for _ in range(2)]
    anchors = [torch.randn(5, generator=generator) for _ in range(2)]
    total = weights[0] + weights[1]
    anchor = (weights[0] * anchors[0] + weights[1] * anchors[1]) / total
    one = QuadraticPenalty(3.0, {"w": total}, {"w": anchor}, {})
    at = torch.randn(5, generator=generator, requires_grad=True)
    (ours,) = torch.autograd.grad(one({"w": at}), at)
    both = sum(3.0 / 2 * (f * (at - a).square()).sum() for f, a in zip(weights, anchors, strict=True))
    (theirs,) = torch.autograd.grad(both, at)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, theirs)


def test_the_importance_is_the_mean_squared_gradient_of_single_examples(home: Home) -> None:
    settings = TrainingSettings(method="lora", method_settings={"r": 2}, epochs=1, batch_size=8, dtype="float32")
    version = home.train("place", settings).version
    task, backbone = tasks.get(home.store, "place"), home.backbone()
    start = Start.from_version(home.store, backbone, version.reference)
    context = Context(home.store, backbone, (task,), settings, {}, {}, SILENT)
    importance, values = fisher(context, task, start)
    assert importance.keys() == values.keys() and all(name.startswith("module.") for name in importance)
    # as many examples as the validation split has, drawn by the seed and the task's name
    size = task.split("validation").examples
    examples = read_split(home.store, task, "train")
    assert 1 < size < len(examples)
    generator = np.random.default_rng([settings.seed, zlib.crc32(b"place")])
    drawn = [examples[index] for index in sorted(generator.choice(len(examples), size, replace=False))]
    name = next(name for name in importance if importance[name].any())
    with active(backbone, "lora", start.files, head=start.files) as model:
        parameter = dict(model.named_parameters())[name]
        squares = torch.zeros_like(parameter)
        for example in drawn:
            batch = model.encode(backbone.tokenizer, [example], 16, learning=True).batch([0])
            targets = batch.pop("targets")
            (gradient,) = torch.autograd.grad(model.head.loss(model(**batch), targets), parameter)
            squares += gradient.square()
    torch.testing.assert_close(importance[name], squares / size)
