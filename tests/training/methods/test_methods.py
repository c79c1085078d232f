"""The seam: every module of the folder is a method, and nothing outside names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import limpet
from limpet.errors import UsageError
from limpet.home import init
from limpet.training import methods
from tests.tiny import tiny_base, tiny_csv

PACKAGE = Path(limpet.__file__).parent


def test_every_module_of_the_folder_is_a_method_of_its_name() -> None:
    files = (PACKAGE / "training" / "methods").glob("[!_]*.py")
    assert {path.stem for path in files} == set(methods.names())
    for name in methods.names():
        method = methods.get(name)
        assert method.name == name
        assert method.summary
        assert 0 < method.learning_rate < 1


def test_an_unknown_method_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="full, lora"):
        methods.get("magic")


def test_the_trainer_names_no_method() -> None:
    for path in (PACKAGE / "training").glob("*.py"):
        code = path.read_text(encoding="utf-8")
        named = re.findall(r"== \"(?:lora|full)\"|methods\.get\(\"", code)
        assert not named, f"{path.name} decides by the name of a method"


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_decoder_learns_is_switched_and_leaves_its_base_alone(tmp_path: Path, kind: str, method: str) -> None:
    home = init(tmp_path / "home", base=str(tiny_base(tmp_path / kind, kind)), mlflow="off")
    for task, seed in ("place", 0), ("again", 1):
        home.task.add(task, f"csv:{tiny_csv(tmp_path / f'{task}.csv', seed=seed)}", max_length=16)
        settings = limpet.TrainingSettings(method, epochs=8, batch_size=8, learning_rate=5e-3, dtype="float32")
        assert home.train(task, settings).version.metrics["accuracy"] > 0.6
    texts = ["old reef of salt", "a big and far storm of wind and cloud near the moon"]
    together = home.predict("place", texts)
    home.predict("again", texts)
    assert home.predict("place", texts) == together
    # the padding of a batch must not change an answer
    alone = [home.predict("place", [text])[0] for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert one.logits == pytest.approx(other.logits, abs=1e-5)
    assert home.report("home").arms[0].identical_predictions is True


@pytest.mark.parametrize("method", methods.names())
def test_a_base_of_a_family_that_a_method_does_not_know_is_refused_before_training(
    tmp_path: Path, method: str
) -> None:
    home = init(tmp_path / "home", base=str(tiny_base(tmp_path / "t5", "t5")), mlflow="off")
    home.task.add("place", f"csv:{tiny_csv(tmp_path / 'place.csv')}")
    assert next(info for info in home.methods() if info.name == method).works is False
    with pytest.raises(UsageError, match="encoder-decoder"):
        home.train("place", limpet.TrainingSettings(method))
