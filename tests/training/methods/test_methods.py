"""The seam: every module of the folder is a method, and nothing outside names one."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

import limpet
from limpet.errors import IntegrityError, InterruptedRunError, UsageError
from limpet.home import Home, init
from limpet.names import shown_method
from limpet.registry import versions
from limpet.registry.records import bases
from limpet.training import methods
from limpet.training.base.tensor_digests import module_digest
from limpet.training.learning.runs.run_folder import discard
from limpet.training.learning.settings import TrainingSettings
from limpet.training.model.task_model import version_files
from tests.migrated import with_database
from tests.tiny import tiny_base, tiny_csv
from tests.training.learning.test_learn import StopAt, contents, staged

PACKAGE = Path(limpet.__file__).parent
OWN = tuple(name for name in methods.names() if ":" not in name)
ON_BERT = tuple(name for name in OWN if "bert" in methods.works_on(methods.get(name)))
QUICK = TrainingSettings(epochs=1, batch_size=16, dtype="float32")
# the tiny tokenizers know words of the texts alone, and what reads labels must know theirs
SETTINGS = {"icl": {"label_words": "sea=wave,sky=cloud,rock=stone"}}
TEXTS = ["old reef of salt", "a big and far storm of wind and cloud near the moon"]


def test_every_module_of_the_folder_offers_methods_of_its_name() -> None:
    files = (PACKAGE / "training" / "methods").glob("[!_]*.py")
    assert {path.stem.replace("_", "-") for path in files} - {"other-peft"} == set(map(shown_method, OWN))
    for name in methods.names():
        method = methods.get(name)
        assert method.name == name
        assert method.summary
        # nothing is trained where the method makes the head itself
        assert (0 < method.learning_rate < 1) is not hasattr(method, "build_head")


def test_every_method_of_peft_is_known_once() -> None:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    kinds = [kind for name in methods.names() if (kind := methods.get(name).peft_type)]
    assert sorted(kinds) == sorted(kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING)
    assert methods.get("peft:LOHA") is methods.get("peft:loha")


def test_an_unknown_method_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="bottleneck, full, ia3, icl, linear-probe, lora"):
        methods.get("magic")
    with pytest.raises(UsageError, match="Did you mean bottleneck"):
        methods.get("botleneck")
    with pytest.raises(UsageError, match="Did you mean lora"):
        methods.get("peft:LORA")


def test_the_trainer_names_no_method() -> None:
    # what a decoder is told before the text is called a prompt as well
    names = set(OWN) - {"prompt"}
    folder = PACKAGE / "training"
    for path in set(folder.rglob("*.py")) - set((folder / "methods").rglob("*.py")):
        code = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        named = [node.value for node in code if isinstance(node, ast.Constant) and node.value in names]
        assert not named, f"{path.relative_to(PACKAGE)} names {named}"


def test_monitor_and_home_decide_nothing_by_the_name_of_a_method() -> None:
    names = "|".join(map(re.escape, OWN))
    for folder in ("forgetting", "home"):
        for path in (PACKAGE / folder).glob("*.py"):
            code = path.read_text(encoding="utf-8")
            named = re.findall(rf"method [=!]= \"(?:{names})\"|methods\.get\(\"|\"lora_\" in", code)
            assert not named, f"{path.name} decides by the name of a method"


@pytest.mark.parametrize("method", OWN)
@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_model_with_a_decoder_learns_is_switched_and_leaves_its_base_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / kind, kind)), mlflow="off")
    record = bases.get(home.store)
    if reason := methods.obstacle(methods.get(method), record):
        home.task.add("place", f"csv:{tiny_csv(tmp_path / 'place.csv')}")
        with pytest.raises(UsageError, match=re.escape(reason)) as refused:
            home.train("place", TrainingSettings(method))
        nearest = methods.nearest(methods.get(method), record)
        assert nearest and refused.value.hint == f"--method {shown_method(nearest)}"
        return
    for task, seed in ("place", 0), ("again", 1):
        home.task.add(task, f"csv:{tiny_csv(tmp_path / f'{task}.csv', seed=seed)}", max_length=16)
        own = SETTINGS.get(method, {})
        home.train(task, TrainingSettings(method, own, epochs=1, batch_size=8, learning_rate=5e-3, dtype="float32"))
    together = home.predict("place", TEXTS)
    home.predict("again", TEXTS)
    assert home.predict("place", TEXTS) == together
    # the padding of a batch must not change an answer
    alone = [home.predict("place", [text])[0] for text in TEXTS]
    for one, other in zip(together, alone, strict=True):
        assert one.logits == pytest.approx(other.logits, abs=1e-5)
    assert home.report("home").arms[0].identical_predictions is True


@pytest.mark.parametrize("method", ON_BERT)
def test_a_method_learns_a_tiny_task_well_above_chance(home: Home, method: str) -> None:
    settings = TrainingSettings(method, epochs=16, batch_size=8, learning_rate=2e-2, dtype="float32")
    if methods.get(method).capabilities.trains_base_copy:
        settings = replace(settings, learning_rate=5e-3)
    assert home.train("place", settings).version.metrics["accuracy"] > 0.6


def test_versions_of_all_methods_live_side_by_side_and_none_moves_another(home: Home, tmp_path: Path) -> None:
    backbone = home.backbone()
    before = module_digest(backbone.model)
    everything = [*ON_BERT, "peft:loha", "peft:oft", "peft:ln_tuning"]
    answers = {}
    for method in everything:
        version = home.train("place", replace(QUICK, method=method)).version
        answers[version.reference] = home.predict(version.reference, TEXTS)
    assert len({answer[0].logits for answer in answers.values()}) == len(everything)
    for reference, answer in reversed(answers.items()):
        assert home.predict(reference, TEXTS) == answer, reference
    assert module_digest(backbone.model) == before
    assert home.verify(deep=True, probe=True).problems == ()
    # they travel as bundles, into a home on the same base
    elsewhere = init(with_database(tmp_path / "elsewhere"), base=str(tmp_path / "base"), mlflow="off")
    for number, (reference, answer) in enumerate(answers.items(), start=1):
        bundle = home.adapter.export(reference, tmp_path / f"{number}.limpet")
        elsewhere.adapter.import_bundle(bundle)
        assert elsewhere.predict(f"place@{number}", TEXTS) == answer, reference
    # another base with tensors of the same shapes
    other = init(
        with_database(tmp_path / "other"), base=str(tiny_base(tmp_path / "other-base", seed=9)), mlflow="off"
    ).backbone()
    for reference in answers:
        with pytest.raises(IntegrityError, match="was trained on the base"):
            version_files(home.store, other, versions.resolve(home.store, reference))


def test_an_architecture_that_was_never_tried_is_tried_on_a_small_model(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {info.name: info.reason for info in home.methods()}
    monkeypatch.setattr(methods, "_tried", dict)
    tried = {info.name: info for info in home.methods()}
    assert {name: info.reason for name, info in tried.items()} == known
    assert (tried["prefix"].works, tried["peft:xlora"].works, tried["peft:xlora"].nearest) == (True, False, "lora")


def test_without_a_base_the_table_says_where_methods_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a base that another test has fetched would be the home's own
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    infos = {info.name: info for info in init(with_database(tmp_path / "home"), mlflow="off").methods()}
    assert infos["partial"].works is None
    assert "albert" not in infos["partial"].architectures
    assert len(infos["lora"].architectures) == 13
    assert infos["prompt"].settings == {"virtual_tokens": 20, "init": "random", "text": ""}


STREAM = """
name: methods
tasks: [place, wet]
training: {epochs: 2, batch_size: 8, dtype: float32}
arms:
  - {name: own, strategy: isolated, method: bottleneck, set: {size: 4, lr: 1e-2}}
  - {name: heads, strategy: isolated, method: probe}
  - {name: one-prefix, strategy: sequential, method: prefix, sweep: {lr: [1e-3, 1e-2]}}
  - {name: any, strategy: isolated, method: "peft:loha", set: {r: 2}}
"""


def test_a_stream_takes_any_method(home: Home, tmp_path: Path) -> None:
    (tmp_path / "stream.yaml").write_text(STREAM, encoding="utf-8")
    home.stream.run(tmp_path / "stream.yaml")
    arms = {arm.name: arm for arm in home.report("methods").arms}
    for name in ("own", "heads", "any"):
        assert arms[name].identical_predictions is True
        assert arms[name].matrix[1][0] == arms[name].matrix[0][0]
    assert arms["one-prefix"].matrix[1][0] is not None


@pytest.mark.parametrize("method", ["bottleneck", "prefix", "p-tuning", "probe", "partial", "peft:vera"])
def test_the_same_seed_gives_the_same_files_and_training_can_go_on_from_them(home: Home, method: str) -> None:
    first = home.train("place", replace(QUICK, method=method)).version
    again = home.train("place", replace(QUICK, method=method))
    assert (again.created, again.version.digest) == (False, first.digest)
    further = home.train("wet", replace(QUICK, method=method), start_from="place@1").version
    fresh = home.train("wet", replace(QUICK, method=method)).version
    assert further.parent == "place@1"
    own = {file.name: file.digest for file in further.files}
    other = {file.name: file.digest for file in fresh.files}
    changed = {name for name in own if own[name] != other[name]}
    # a probe has nothing to go on from: another task has another head
    assert changed == (set() if method == "probe" else {"head.safetensors", *(own.keys() & STATE)})


@pytest.mark.parametrize("method", ["bottleneck", "prefix", "p-tuning", "probe", "partial", "peft:loha"])
def test_an_interrupted_run_goes_on_to_the_same_bits(home: Home, method: str) -> None:
    chosen = {"prefix": {"projection": True}, "p-tuning": {"encoder": "lstm", "encoder_dropout": 0.1}}
    settings = replace(QUICK, method=method, epochs=2, batch_size=8, method_settings=chosen.get(method, {}))
    undisturbed = staged(home, settings=settings)
    kept = contents(undisturbed)
    discard(undisturbed)
    with pytest.raises(InterruptedRunError):
        staged(home, settings=settings, progress=StopAt(11))
    assert contents(staged(home, settings=settings, resume=True)) == kept


STATE = {"adapter_model.safetensors", "model.safetensors"}


@pytest.mark.parametrize("method", ["bottleneck", "prefix", "prompt", "ia3", "partial", "probe"])
def test_it_learns_in_bfloat16_too(home: Home, method: str) -> None:
    version = home.train("place", replace(QUICK, method=method, dtype="bfloat16")).version
    assert version.metrics["score"] >= 0
