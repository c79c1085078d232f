"""Learning in context: nothing is trained, and the file of demonstrations is all that there is of a version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax

from limpet.errors import IntegrityError, UsageError
from limpet.home import Home, init
from limpet.training.data.stored_splits import read_split
from limpet.training.generation.demonstrations import Script, parse
from limpet.training.heads.in_context import InContextHead
from limpet.training.learning.settings import TrainingSettings
from limpet.training.model.task_model import TaskModel, version_files
from tests.migrated import with_database
from tests.tiny import tiny_base, tiny_csv
from tests.warm import Warm

# the tiny tokenizer knows no label by its name
WORDS = {"label_words": "sea=wave,sky=cloud,rock=stone"}
TEXTS = ["old reef of salt and wave", "the far cloud", "a cliff " * 30]


def a_home(folder: Path, kind: str = "llama") -> Home:
    home = init(with_database(folder / "home"), base=str(tiny_base(folder / "base", kind)), mlflow="off")
    home.task.add("place", f"csv:{tiny_csv(folder / 'place.csv')}", max_length=16)
    return home


def learn(home: Home, **settings: Any) -> Any:
    return home.train("place", TrainingSettings("icl", method_settings=WORDS | settings)).version


@pytest.mark.parametrize("kind", ("gpt2", "llama", "opt"))
def test_the_adapter_is_the_demonstrations_and_its_logits_are_likelihoods(tmp_path: Path, kind: str) -> None:
    home = a_home(tmp_path, kind)
    version = learn(home, shots=1, template="{text} near {label}")
    assert sorted(file.name for file in version.files) == ["demonstrations.json", "labels.json"]
    assert version.cost["trainable_parameters"] == 0
    assert version.metrics["accuracy"] == version.metrics["score"]
    backbone = home.backbone()
    told = parse(version_files(home.store, backbone, version)["demonstrations.json"].read_bytes())
    assert sorted(one.label for one in told.shown) == ["rock", "sea", "sky"]
    shown = {(one.text, one.label) for one in told.shown}
    train = [
        (one.text, version.labels[one.target]) for one in read_split(home.store, home.task.show("place"), "train")
    ]
    assert all(any(full.startswith(text) and label == name for full, name in train) for text, label in shown)
    script = Script(backbone.tokenizer, told.template, told.words)
    assert all(len(ids) == 1 for ids in script.words)
    head = backbone.language_head()
    for answer in home.predict("place", TEXTS):
        ids = [*script.beginning(told), *script.question(answer.text, 16)]
        with torch.inference_mode():
            hidden = backbone.model(torch.tensor([ids])).last_hidden_state[0, -1]
            found = log_softmax(head(hidden, backbone.model.get_input_embeddings().weight), dim=-1)
        wanted = torch.stack([found[word[0]] for word in script.words])
        torch.testing.assert_close(torch.tensor(answer.logits), wanted, rtol=0, atol=1e-4)
        assert answer.label == version.labels[int(wanted.argmax())]


def test_reading_the_demonstrations_once_changes_nothing(tmp_path: Path) -> None:
    home = a_home(tmp_path, "opt")
    version = learn(home, shots=1, label_words="sea=wave tide,sky=cloud,rock=stone old sand")
    backbone = home.backbone()
    told = parse(version_files(home.store, backbone, version)["demonstrations.json"].read_bytes())
    rows = []
    for reuse in (True, False):
        head = InContextHead(told, reuse)
        head.bind_base(backbone)
        model = TaskModel(backbone.model, head, frozenset())
        examples = read_split(home.store, home.task.show("place"), "evaluation")
        encoded = model.encode(backbone.tokenizer, examples, 16)
        batch = encoded.batch(range(len(examples)))
        rows.append(torch.stack(model.answer(batch)))
    # the tolerance that docs/guides/icl.md names
    torch.testing.assert_close(rows[0], rows[1], rtol=0, atol=1e-4)


def test_seed_and_order_decide_and_settings_of_training_do_not(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    first = learn(home)
    again = home.train("place", TrainingSettings("icl", method_settings=WORDS, epochs=7, learning_rate=0.5))
    assert not again.created
    other = learn(home, order_seed=1)
    assert other.digest != first.digest
    seeded = home.train("place", TrainingSettings("icl", method_settings=WORDS, seed=1)).version
    contents = []
    for version in (first, other, seeded):
        files = version_files(home.store, home.backbone(), version)
        contents.append(
            [one["text"] for one in json.loads(files["demonstrations.json"].read_text())["demonstrations"]]
        )
    assert contents[0] != contents[1]
    assert sorted(contents[0]) == sorted(contents[1]) != sorted(contents[2])


AGAIN = """
import json, sys
from limpet.home import open_home
home = open_home(sys.argv[1])
print(json.dumps([one.logits for one in home.predict("place", json.loads(sys.argv[2]))]))
"""


def test_a_new_process_and_another_home_give_the_same_answers(tmp_path: Path, warm: Warm) -> None:
    home = a_home(tmp_path)
    version = learn(home)
    before = [list(one.logits) for one in home.predict("place", TEXTS)]
    printed = warm.python("-c", AGAIN, home.path, json.dumps(TEXTS))
    assert json.loads(printed.splitlines()[-1]) == before
    home.adapter.export(version.reference, tmp_path / "place.limpet")
    other = init(with_database(tmp_path / "other"), base=str(tmp_path / "base"), mlflow="off")
    other.adapter.import_bundle(tmp_path / "place.limpet")
    assert [list(one.logits) for one in other.predict("place", TEXTS)] == before
    for one in home, other:
        assert not one.verify(deep=True, probe=True).problems


def test_the_monitor_watches_it_like_every_other(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    learn(home)
    home.task.add("more", f"csv:{tiny_csv(tmp_path / 'more.csv', seed=5)}", max_length=16)
    trained = home.train("more", TrainingSettings("lora", epochs=1, dtype="float32"))
    assert set(trained.row) == {"place", "more"}
    assert trained.row["place"] == home.adapter.show("place").metrics["score"]


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    version = learn(home)
    (file,) = [file for file in version.files if file.name == "demonstrations.json"]
    path = Path(str(home.store.blobs.path(file.digest)))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"wave", b"tide"))
    with pytest.raises(IntegrityError):
        home.predict("place", TEXTS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shots": 0}, "'shots' of method 'icl' must be at least 1"),
        ({"shots": 500}, "are to be shown of each"),
        ({"budget": 20}, "do not fit into 20 tokens"),
        ({"template": "{text}"}, "ends with"),
        ({"label_words": ""}, "as the same tokens"),
        ({"label_words": "tree=wave"}, "label=word for the labels"),
        ({"shot": 2}, "Did you mean shots"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        learn(a_home(tmp_path), **settings)


def test_it_goes_on_from_nothing_and_stands_on_no_encoder(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    reference = learn(home).reference
    with pytest.raises(UsageError, match="trains nothing"):
        home.train("place", TrainingSettings("icl", method_settings=WORDS), start_from=reference)
    (tmp_path / "bert").mkdir()
    with pytest.raises(UsageError, match="demonstrations need a decoder"):
        learn(a_home(tmp_path / "bert", "bert"))
