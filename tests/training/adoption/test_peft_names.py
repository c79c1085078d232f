"""Adapters as the usual trainers leave them: other names, patterns, copies and heads, with plain peft's logits."""

from __future__ import annotations

import csv
import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, LimpetError, NotFoundError, UsageError
from limpet.home import Home, init
from limpet.training.adoption import peft_names
from limpet.training.adoption.peft_names import in_names_of_the_base, named_by
from limpet.training.model.task_model import active, version_files
from tests.tiny import tiny_base, tiny_csv
from tests.training.adoption.test_adopt import TEXTS, plain_backbone, plain_classifier

IDS = torch.tensor([[7, 8, 15, 3, 11, 20]])
ATTENTION = ["q_proj", "v_proj"]
FULL = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"]
# as unsloth writes it: six lazy repetitions, which a careful reader would rather not match
LAZY = (
    r"(?:.*?(?:text|layers).*?(?:self_attn|mlp).*?(?:q_proj|up_proj).*?)"
    r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|mlp)\.(?:q_proj|v_proj))"
)


class Notes:
    """Progress that keeps what it is told and passes nothing on."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def __getattr__(self, name: str) -> Any:
        from limpet.training.progress import SILENT

        return getattr(SILENT, name)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("bases") / "tiny-llama", "llama")


@pytest.fixture
def llama(tmp_path: Path, home_folder: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home on a tiny Llama, with the task `write` of generation and `place` of classification."""
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    made = init(home_folder, base=str(llama_folder), mlflow="off")
    rows = tiny_csv(tmp_path / "place.csv", rows=30)
    made.task.add("place", f"csv:{rows}", max_length=16)
    with rows.open(encoding="utf-8") as file, (tmp_path / "write.jsonl").open("w", encoding="utf-8") as out:
        for row in csv.DictReader(file):
            out.write(json.dumps({"text": row["text"], "target": row["label"]}) + "\n")
    made.task.add("write", f"jsonl:{tmp_path / 'write.jsonl'}", type="generation", max_length=16, max_new_tokens=2)
    return made


def made_elsewhere(base: Path, folder: Path, task_type: str, **config: Any) -> torch.Tensor:
    """Make a random LoRA with plain peft on the class that `task_type` names; return plain peft's logits for IDS."""
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    if task_type == "CAUSAL_LM":
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(base)
    else:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
        model.config.pad_token_id = 0
    made = get_peft_model(model, LoraConfig(task_type=task_type, r=4, init_lora_weights=False, **config)).eval()
    made.save_pretrained(str(folder))
    with torch.no_grad():
        logits: torch.Tensor = made(input_ids=IDS).logits
    return logits


def written(home: Home, reference: str) -> torch.Tensor:
    """Return a version's logits of words for IDS."""
    backbone = home.backbone()
    version = home.adapter.show(reference)
    files = version_files(home.store, backbone, version)
    with active(backbone, version.method, files, head=files) as model, torch.no_grad():
        hidden = model.module(input_ids=IDS).last_hidden_state
        return backbone.language_head()(hidden, backbone.model.get_input_embeddings().weight)


def kept(home: Home, reference: str) -> dict[str, Any]:
    version = home.adapter.show(reference)
    files = version_files(home.store, home.backbone(), version)
    content: dict[str, Any] = json.loads(files["adapter_config.json"].read_text(encoding="utf-8"))
    return content


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def edit(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ATTENTION},
        {"target_modules": "all-linear"},
        {"target_modules": FULL},
        {
            "target_modules": ATTENTION,
            "rank_pattern": {"model.layers.0.self_attn.q_proj": 2},
            "alpha_pattern": {"model.layers.0.self_attn.q_proj": 64, r"layers\.1\..*v_proj": 3},
        },
        {"target_modules": ATTENTION, "layers_to_transform": [1], "layers_pattern": "layers"},
        {"target_modules": ATTENTION, "layers_to_transform": 0},
        {"target_modules": LAZY},
        {"target_modules": r"model\.layers\.\d+\.mlp\.(gate|up)_proj", "exclude_modules": ["layers.0.mlp.up_proj"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": [*ATTENTION, "c_attn", "query_key_value"]},
        {"target_modules": ATTENTION, "use_dora": True, "use_rslora": True},
    ],
    ids=[
        "last-names", "all-linear", "full-names", "patterns", "layers", "one-layer", "lazy-regex", "excluded",
        "embedding", "names-that-are-not-there", "dora",
    ],
)  # fmt: skip
def test_an_adapter_for_writing_answers_as_with_plain_peft(
    llama: Home, llama_folder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    expected = made_elsewhere(llama_folder, tmp_path / "elsewhere", "CAUSAL_LM", **config)
    version = llama.adapter.register("write", tmp_path / "elsewhere").version
    torch.testing.assert_close(written(llama, version.reference), expected, rtol=0, atol=1e-5)
    assert not any("model." in name for name in kept(llama, version.reference)["target_modules"])


@pytest.mark.parametrize("saved", [["model.norm"], ["input_layernorm", "lm_head"]], ids=str)
def test_norms_that_were_trained_along_are_kept(
    llama: Home, llama_folder: Path, tmp_path: Path, saved: list[str]
) -> None:
    folder = tmp_path / "elsewhere"
    made_elsewhere(llama_folder, folder, "CAUSAL_LM", target_modules=ATTENTION, modules_to_save=saved)

    def train(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            if "norm" in name:
                tensors[name] += torch.linspace(0, 1, 32)

    edit(folder, train)
    version = llama.adapter.register("write", folder).version
    torch.testing.assert_close(written(llama, version.reference), loaded(llama_folder, folder), rtol=0, atol=1e-5)
    llama.backbone().check_unchanged()


def loaded(base: Path, adapter: Path) -> torch.Tensor:
    """Return plain peft's logits for IDS."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


def test_a_version_whose_configuration_copies_more_than_norms_is_not_loaded(
    llama: Home, llama_folder: Path, tmp_path: Path
) -> None:
    made_elsewhere(llama_folder, tmp_path / "elsewhere", "CAUSAL_LM", target_modules=ATTENTION)
    version = llama.adapter.register("write", tmp_path / "elsewhere").version
    files = dict(version_files(llama.store, llama.backbone(), version))
    content = json.loads(files["adapter_config.json"].read_text()) | {"modules_to_save": ["layers.0"]}
    files["adapter_config.json"] = tmp_path / "adapter_config.json"
    files["adapter_config.json"].write_text(json.dumps(content))
    backbone = llama.backbone()
    with (
        pytest.raises(IntegrityError, match=r"names layers\.0, and only norms can be kept"),
        active(backbone, "lora", files, head=files),
    ):
        pass
    backbone.check_unchanged()


def test_a_lazy_pattern_becomes_a_list_that_any_home_takes_in(
    llama: Home, llama_folder: Path, tmp_path: Path
) -> None:
    made_elsewhere(llama_folder, tmp_path / "elsewhere", "CAUSAL_LM", target_modules=LAZY)
    llama.adapter.register("write", tmp_path / "elsewhere")
    assert kept(llama, "write@1")["target_modules"] == ["q_proj", "up_proj", "v_proj"]
    bundle = llama.adapter.export("write@1", tmp_path / "write.limpet")
    assert llama.adapter.import_bundle(bundle)[1] is False


def test_a_pattern_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft_names, "_SECONDS", 0.5)
    names = [f"layers.{number}.self_attn.q_proj" for number in range(30)]
    began = time.monotonic()
    _, problems = in_names_of_the_base({"target_modules": r"((\w|\.)+)+!"}, "", names)
    assert time.monotonic() - began < 5
    assert [name for name, _ in problems] == ["target_modules"]
    assert "took more than" in problems[0][1]


def test_names_are_matched_from_their_end_as_peft_does() -> None:
    names = ["a.dense", "a.pooler.dense", "dense_a"]
    assert named_by(["dense"], names) == ["a.dense", "a.pooler.dense"]
    assert named_by(["pooler.dense"], names) == ["a.pooler.dense"]
    assert named_by(r".*\.dense", names) == ["a.dense", "a.pooler.dense"]


def test_a_list_is_as_short_as_hits_the_same_modules_and_no_other() -> None:
    names = ["layers.0.q", "layers.0.v", "layers.1.q", "layers.1.v"]
    every = {"target_modules": [f"model.{name}" for name in names if name.endswith("q")]}
    assert in_names_of_the_base(every, "model.", names)[0]["target_modules"] == ["q"]
    one = {"target_modules": ["model.layers.0.q", "model.layers.0.v"]}
    assert in_names_of_the_base(one, "model.", names)[0]["target_modules"] == ["layers.0.q", "layers.0.v"]
    plain = {"target_modules": ["v", "q"], "rank_pattern": {"q": 2}}
    assert in_names_of_the_base(plain, "model.", names) == (plain, [])


# heads


def test_a_classifier_on_a_decoder_keeps_its_logits(llama: Home, llama_folder: Path, tmp_path: Path) -> None:
    expected = made_elsewhere(llama_folder, tmp_path / "elsewhere", "SEQ_CLS", target_modules=ATTENTION)
    llama.adapter.register("place", tmp_path / "elsewhere")
    backbone = llama.backbone()
    text = backbone.tokenizer.decode(IDS[0])
    assert backbone.tokenizer(text)["input_ids"] == IDS[0].tolist()
    (answer,) = llama.predict("place", [text])
    torch.testing.assert_close(torch.tensor([answer.logits]), expected, rtol=0, atol=1e-5)


def test_a_classifier_is_no_adapter_for_writing(llama: Home, llama_folder: Path, tmp_path: Path) -> None:
    made_elsewhere(llama_folder, tmp_path / "elsewhere", "SEQ_CLS", target_modules=ATTENTION)
    with pytest.raises(IntegrityError, match="it brings the head of a classifier, and task 'write' is of type"):
        llama.adapter.register("write", tmp_path / "elsewhere")


def test_an_update_of_the_language_model_head_is_refused_as_what_it_is(
    llama: Home, llama_folder: Path, tmp_path: Path
) -> None:
    made_elsewhere(llama_folder, tmp_path / "elsewhere", "CAUSAL_LM", target_modules=["q_proj", "lm_head"])
    with pytest.raises(IntegrityError, match="it changes lm_head, which is no part of the backbone"):
        llama.adapter.register("write", tmp_path / "elsewhere")


def test_a_trained_copy_of_the_words_is_refused_and_an_equal_one_left_away(
    llama: Home, llama_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    made_elsewhere(llama_folder, folder, "CAUSAL_LM", target_modules=["q_proj", "embed_tokens"])
    notes: Any = Notes()
    version = llama.adapter.register("write", folder, progress=notes).version
    assert version.lineage["registered"] == {"copies_of_the_base": ["model.embed_tokens.base_layer.weight"]}
    assert any("copies of the base's own tensors are left away" in note for note in notes.notes)
    edit(folder, lambda tensors: tensors["base_model.model.model.embed_tokens.base_layer.weight"].add_(1))
    with pytest.raises(IntegrityError, match="which is not the base's own"):
        llama.adapter.register("write", folder)


@pytest.mark.parametrize("named", [False, True])
def test_the_rows_of_a_head_are_whole_numbers_in_their_order_or_as_they_are_named(
    home: Home, tmp_path: Path, named: bool
) -> None:
    text = tiny_csv(tmp_path / "places.csv").read_text(encoding="utf-8")
    for label, number in {",sea": ",10", ",sky": ",2", ",rock": ",0"}.items():
        text = text.replace(label, number)
    (tmp_path / "numbers.csv").write_text(text, encoding="utf-8")
    home.task.add("numbers", f"csv:{tmp_path / 'numbers.csv'}", max_length=16)
    expected = plain_classifier(tmp_path / "base", tmp_path / "elsewhere")
    order = ["10", "0", "2"] if named else None
    home.adapter.register("numbers", tmp_path / "elsewhere", labels=order)
    logits = torch.tensor([answer.logits for answer in home.predict("numbers", TEXTS)])
    read = order or ["0", "2", "10"]
    columns = [read.index(label) for label in home.task.show("numbers").labels]
    torch.testing.assert_close(logits, expected[:, columns], rtol=0, atol=1e-5)


def test_labels_that_are_not_the_task_s_or_have_no_head_are_refused(home: Home, tmp_path: Path) -> None:
    plain_classifier(tmp_path / "base", tmp_path / "classifier")
    with pytest.raises(UsageError, match="The labels sea, sky are not those of task 'place'"):
        home.adapter.register("place", tmp_path / "classifier", labels=["sea", "sky"])
    folder = plain_backbone(tmp_path / "base", tmp_path / "backbone")
    with pytest.raises(UsageError, match="this folder has no such head"):
        home.adapter.register("place", folder, labels=["sea", "sky", "rock"])


# fields


def test_fields_that_peft_ignores_are_left_away_and_recorded(home: Home, tmp_path: Path) -> None:
    expected = plain_classifier(tmp_path / "base", tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    old = {name: config[name] for name in ("peft_type", "r", "lora_alpha", "target_modules", "task_type", "bias")}
    more = {"enable_lora": None, "merge_weights": False, "learning_rate": 1e-4, "rank_pattern": None}
    begun = {"eva_config": {"rho": 2.0}, "init_lora_weights": "eva", "loftq_config": {"loftq_bits": 4}}
    path.write_text(json.dumps(old | more | begun), encoding="utf-8")
    version = home.adapter.register("place", tmp_path / "elsewhere").version
    ignored = ["eva_config", "learning_rate", "loftq_config"]
    assert version.lineage["registered"] == {"ignored_fields": ignored}
    logits = torch.tensor([answer.logits for answer in home.predict("place", TEXTS)])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "said"),
    [("someone/another-model", True), ("/models/base", False), ("org/base@main", False), (None, False)],
)
def test_a_base_of_another_name_is_said_and_recorded(
    home: Home, tmp_path: Path, name: str | None, said: bool
) -> None:
    folder = plain_backbone(tmp_path / "base", tmp_path / "elsewhere")
    configure(folder, base_model_name_or_path=name)
    notes: Any = Notes()
    version = home.adapter.register("place", folder, progress=notes).version
    assert any("names the base 'someone/another-model'" in note for note in notes.notes) == said
    origin = {"registered": {"base_model_name_or_path": name}} if said else {}
    assert version.lineage == origin


def test_a_pickled_adapter_is_refused_with_a_conversion_that_runs_no_code(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain_classifier(tmp_path / "base", tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / "adapter_model.safetensors"
    torch.save(load_file(path), path.with_name("adapter_model.bin"))
    path.unlink()
    with pytest.raises(NotFoundError, match=r"adapter_model\.bin is a pickle") as refused:
        home.adapter.register("place", tmp_path / "elsewhere")
    program = shlex.split(refused.value.hint.partition("python -c ")[2])[0]
    assert "weights_only=True" in program
    monkeypatch.chdir(path.parent)
    exec(program, {})
    home.adapter.register("place", tmp_path / "elsewhere")
    logits = torch.tensor([answer.logits for answer in home.predict("place", TEXTS)])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_a_folder_that_began_by_changing_the_base_is_refused_with_the_way_to_convert(
    home: Home, tmp_path: Path
) -> None:
    folder = plain_backbone(tmp_path / "base", tmp_path / "elsewhere")
    configure(folder, init_lora_weights="pissa")
    with pytest.raises(LimpetError, match="path_initial_model_for_weight_conversion"):
        home.adapter.register("place", folder)
