"""Every method on every architecture, through a home: ten steps, kept, and the same answers wherever asked for.

A quick sample of cells runs always; all that are claimed to work run with the slow tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from limpet.errors import IntegrityError
from limpet.home import Home, init
from limpet.registry import versions
from limpet.training import methods
from limpet.training.base import locate
from limpet.training.base.backbone import load_backbone
from limpet.training.evaluation.predict_texts import predict
from limpet.training.learning.settings import TrainingSettings
from tests.migrated import with_database
from tests.tiny import KINDS, tiny_base, tiny_csv
from tests.warm import Warm

TEXTS = ["old reef of salt and wave", "a cliff", "the storm and the moon"]
STEPS = 10
# the tiny tokenizer knows no label by its name
SETTINGS = {"icl": {"label_words": "sea=wave,sky=cloud,rock=stone", "shots": 1}}

Answer = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Grown:
    """A home in which every method learned one task, in turn, with what each answered right afterwards."""

    home: Home
    kind: str
    folder: Path
    answers: dict[str, Answer]


def claimed(kind: str) -> list[str]:
    """The methods that are said to work there."""
    names = [name for name in methods.names() if kind in methods.works_on(methods.get(name))]
    # transformers reads the tiny Qwen2's words by a tokenizer of its own, to which all of them are one
    return [name for name in names if (kind, name) != ("qwen2", "icl")]


CELLS = [
    pytest.param("bert-sample"),
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS),
]


@pytest.fixture(scope="module", params=CELLS)
def grown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grown]:
    kind = request.param.removesuffix("-sample")
    chosen = claimed(kind)
    if kind != request.param:
        # those that have a name of their own
        chosen = [name for name in chosen if ":" not in name]
    folder = tmp_path_factory.mktemp(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMPET_CACHE", str(folder / "cache"))
        home = init(with_database(folder / "home"), base=str(tiny_base(folder / "base", kind)), mlflow="off")
        data = tiny_csv(folder / "place.csv")
        home.task.add("place", f"csv:{data}", train_size=50, max_length=16)
        answers = {}
        for name in chosen:
            settings = TrainingSettings(
                name,
                {**methods.get(name).example, **SETTINGS.get(name, {})},
                epochs=1,
                batch_size=50 // STEPS,
                dtype="float32",
            )
            version = home.train("place", settings, monitor=False).version
            answers[version.reference] = answer(home, version.reference)
        yield Grown(home, kind, folder, answers)


def answer(home: Home, reference: str) -> Answer:
    return tuple(one.logits for one in home.predict(reference, TEXTS))


AGAIN = """
import json, sys
from limpet.home import open_home
home, texts = open_home(sys.argv[1]), json.loads(sys.argv[3])
print(json.dumps({one: [p.logits for p in home.predict(one, texts)] for one in json.loads(sys.argv[2])}))
"""


def test_a_new_process_gives_the_same_bits(grown: Grown, warm: Warm) -> None:
    printed = warm.python("-c", AGAIN, grown.home.path, json.dumps(list(grown.answers)), json.dumps(TEXTS))
    said = {one: tuple(map(tuple, logits)) for one, logits in json.loads(printed).items()}
    assert [one for one in grown.answers if said[one] != grown.answers[one]] == []


def test_what_others_learned_since_changes_no_bit(grown: Grown) -> None:
    assert [one for one, logits in grown.answers.items() if answer(grown.home, one) != logits] == []
    assert len(set(grown.answers.values())) == len(grown.answers), "two methods gave one answer"


def test_switching_there_and_back_changes_no_bit(grown: Grown) -> None:
    references = list(grown.answers)
    for first, second in zip(references, references[1:] + references[:1], strict=True):
        there, other, back = (answer(grown.home, one) for one in (first, second, first))
        assert there == back
        assert other != there


def test_another_base_of_the_same_shape_is_refused(grown: Grown) -> None:
    store = grown.home.store
    other = tiny_base(grown.folder / "other", grown.kind, seed=1)
    backbone = load_backbone(store, locate.describe(locate.resolve(str(other))))
    for reference in grown.answers:
        with pytest.raises(IntegrityError, match="was trained on the base"):
            predict(store, backbone, versions.resolve(store, reference), texts=TEXTS)
