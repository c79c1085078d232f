"""Adapters of the real trainers for a task of generation: taken in as they are, and answered word for word.

`fixtures/trl` was made by `benchmarks/trl_round_trip.py --keep`, which says how to make an environment with trl;
`fixtures/llama-factory` by LLaMA-Factory 0.9.5 (`llamafactory-cli train`, template alpaca), `fixtures/axolotl` by
axolotl 0.19.0 (type alpaca), both on a CPU, on the same tiny Llama and headlines.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.home import Home
from tests.training.adoption.test_adopt import plain_backbone
from tests.training.generation.test_generation import a_home

FIXTURE = Path(__file__).parent / "fixtures" / "trl"
TEXTS = ["wave tide salt reef 7", "cloud wind star moon old 1", "iron clay stone sand 3", "moon"]


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a task of generation, on the base that the fixture was trained on."""
    return a_home(tmp_path_factory.mktemp("writing"), "llama")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of what trl saved."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "trl"))


ASKED = "Write the headline of the following text.\n\n{text}\n\n"


def plain_answers(
    base: Path, adapter: Path, texts: list[str], asked: str = ASKED, end: int | None = None
) -> list[str]:
    """What plain peft writes, greedily, after the prompts that the adapter was trained with."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    written = []
    for text in texts:
        ids = tokenizer(asked.replace("{text}", text), return_tensors="pt")["input_ids"]
        with torch.no_grad():
            ended = {} if end is None else {"eos_token_id": end}
            out = model.generate(input_ids=ids, max_new_tokens=6, do_sample=False, pad_token_id=0, **ended)
        written.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return written


def written_here(home: Home) -> list[str]:
    """What the newest version writes."""
    return [str(vars(answer)["answer"]) for answer in home.predict("headlines", TEXTS)]


def test_an_adapter_of_trl_writes_word_for_word_what_plain_peft_writes(writing: Home, tmp_path: Path) -> None:
    version = writing.adapter.register("headlines", FIXTURE).version
    assert version.number == 1
    base = writing.path.parent / "base"
    expected = plain_answers(base, FIXTURE, TEXTS)
    assert written_here(writing) == expected
    assert len(set(expected)) > 2
    assert version.metrics["score"] > 0.9
    # by the names of the backbone alone peft would find nothing, and answer as the bare base
    exported = writing.adapter.export(version.reference, tmp_path / "out", for_engine="peft")
    theirs, ours = (load_file(one / "adapter_model.safetensors") for one in (FIXTURE, exported))
    assert theirs.keys() == ours.keys()
    assert plain_answers(base, exported, TEXTS) == expected
    assert not writing.adapter.register("headlines", exported).created


def test_a_task_can_ask_in_plain_words_with_nothing_put_behind_them(writing: Home) -> None:
    asked = "### Write : {text}\n\n### Headline :"
    plain = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    data = f"csv:{writing.path.parent / 'news.csv'}"
    writing.task.add("alpaca", data, type="generation", max_new_tokens=6, prompt=asked, chat_template=plain)
    writing.adapter.register("alpaca", FIXTURE)
    written = [vars(answer)["answer"] for answer in writing.predict("alpaca", TEXTS)]
    assert written == plain_answers(writing.path.parent / "base", FIXTURE, TEXTS, asked)


ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nWrite the headline of the following text.\n\n{text}\n\n### Response:\n"
)
PLAIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.mark.parametrize("trainer", ["llama-factory", "axolotl"])
def test_what_other_trainers_leave_answers_word_for_word_as_plain_peft(
    writing: Home, tmp_path: Path, trainer: str
) -> None:
    outer = Path(shutil.copytree(FIXTURE.parent / trainer, tmp_path / "out"))
    # what lies in these folders beside the adapter
    shutil.copytree(outer, outer / "checkpoint-100")
    for name in ("README.md", "trainer_state.json", "config.json", "tokenizer.json", "training_args.bin"):
        (outer / name).write_text("{}")
    template = outer / "chat_template.jinja"
    form: dict[str, Any] = {"chat_template": template.read_text()} if template.exists() else {"prompt": ALPACA}
    data = f"csv:{writing.path.parent / 'news.csv'}"
    writing.task.add(trainer, data, type="generation", max_new_tokens=6, **{"chat_template": PLAIN, **form})
    notes = Notes()
    writing.adapter.register(trainer, outer, progress=notes)
    assert not [told for told in notes.told if "template" in told or "tokenizer" in told]
    written = [str(vars(answer)["answer"]) for answer in writing.predict(trainer, TEXTS)]
    assert written == plain_answers(writing.path.parent / "base", outer, TEXTS, ALPACA)
    assert any(written)


def test_only_what_writes_text_is_exported_for_peft(home: Home, tmp_path: Path) -> None:
    home.adapter.register("place", plain_backbone(tmp_path / "base", tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="by a head of its own"):
        home.adapter.export("place@1", tmp_path / "out", for_engine="peft")
    assert not (tmp_path / "out").exists()


def change(folder: Path, **tensors: torch.Tensor) -> None:
    """Put tensors into a folder beside those that it has."""
    path = folder / "adapter_model.safetensors"
    named = {f"base_model.model.{name.replace('__', '.')}": tensor for name, tensor in tensors.items()}
    save_file(load_file(path) | named, path)


def test_copies_of_the_words_are_left_out_and_changed_ones_are_refused_by_what_differs(
    writing: Home, folder: Path
) -> None:
    whole = load_file(writing.path.parent / "base" / "model.safetensors")
    words, head = whole["model.embed_tokens.weight"], whole["lm_head.weight"]
    # trained in bfloat16 and saved in float32, as trainers do
    rounded = words.to(torch.bfloat16).float()
    change(folder, model__embed_tokens__weight=rounded, lm_head__weight=head)
    kept = writing.adapter.register("headlines", folder).version
    assert {file.digest for file in kept.files} == {file.digest for file in writing.adapter.show("headlines@1").files}
    trained = words.clone()
    trained[[3, 5]] += 0.01
    longer = torch.cat([head, head[:2]])
    change(folder, model__embed_tokens__weight=trained, lm_head__weight=longer)
    with pytest.raises(IntegrityError) as refused:
        writing.adapter.register("headlines", folder)
    assert "embed_tokens.weight, which is not the base's own (2 of 33 rows differ)" in refused.value.message
    assert "lm_head.weight, which has 35 rows, and the base's has 33: words were added" in refused.value.message
    assert "without embed_tokens and lm_head among modules_to_save" in str(refused.value.hint)


@pytest.mark.parametrize("best", ["", "out/checkpoint-9"])
def test_of_a_trainers_output_folder_the_checkpoint_to_name_is_told(
    writing: Home, folder: Path, tmp_path: Path, best: str
) -> None:
    outer = tmp_path / "out"
    for step in (9, 10):
        shutil.copytree(folder, outer / f"checkpoint-{step}")
    state: dict[str, object] = {"best_model_checkpoint": best or None, "log_history": []}
    (outer / "checkpoint-10" / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(NotFoundError, match=r"they lie in checkpoint-10, checkpoint-9\.") as refused:
        writing.adapter.register("headlines", outer)
    named = "checkpoint-9, the one that its trainer found best" if best else "checkpoint-10, the newest"
    assert str(refused.value.hint).endswith(named)


def test_a_whole_model_is_told_from_an_adapter(writing: Home) -> None:
    with pytest.raises(NotFoundError, match="not a peft adapter but a whole model") as refused:
        writing.adapter.register("headlines", writing.path.parent / "base")
    assert "--from-model" in str(refused.value.hint)


def test_a_bias_beside_a_layer_that_has_none_is_evaluated_though_it_cannot_be_merged(
    writing: Home, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMPET_LATENCY_SECONDS", "0.01")
    names = [name for name in load_file(folder / "adapter_model.safetensors") if ".lora_B." in name]
    rows = {name: load_file(folder / "adapter_model.safetensors")[name].shape[0] for name in names}
    path = folder / "adapter_model.safetensors"
    biases = {name.replace("weight", "bias"): torch.full((size,), 0.01) for name, size in rows.items()}
    save_file(load_file(path) | biases, path)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_bias": True}))
    version = writing.adapter.register("headlines", folder).version
    assert version.cost["latency"]["merged_milliseconds"] is None
    assert written_here(writing) == plain_answers(writing.path.parent / "base", folder, TEXTS)


class Notes:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def start(self, description: str, total: int) -> None:
        """See `Progress.start`."""

    def advance(self, done: int, detail: str = "") -> None:
        """See `Progress.advance`."""

    def finish(self) -> None:
        """See `Progress.finish`."""

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        self.told.append(text)


@pytest.mark.parametrize("beside", ["chat_template.jinja", "tokenizer_config.json"])
def test_how_an_adapter_was_trained_to_be_asked_and_to_end_is_told_where_its_task_does_otherwise(
    writing: Home, folder: Path, beside: str
) -> None:
    template, config = "{{ messages[0].content }}", folder / "tokenizer_config.json"
    end = "moon" if beside == "tokenizer_config.json" else "<new>"
    said: dict[str, object] = {"eos_token": {"content": end}, "added_tokens_decoder": {"33": {"content": "<new>"}}}
    if beside == "tokenizer_config.json":
        said["chat_template"] = [{"name": "default", "template": template}]
    else:
        (folder / beside).write_text(template)
    config.write_text(json.dumps(said))
    # other bytes than the fixture's, so that what is recorded is of this folder
    change(folder, model__layers__0__self_attn__q_proj__lora_A__weight=torch.full((4, 32), 0.01 + len(beside)))
    notes = Notes()
    version = writing.adapter.register("headlines", folder, progress=notes).version
    told = "\n".join(notes.told)
    assert "asks in another (none, as the base has none)" in told
    assert f"--chat-template {folder}/chat_template.jinja" in told
    assert ("save the field chat_template of" in told) == (beside == "tokenizer_config.json")
    ended = {
        "moon": "its answers end with 'moon', as its files say",
        "<new>": "its tokenizer ends answers with '<new>', a word that the base does not have",
    }
    assert ended[end] in told
    assert "words that the base's does not have, and no prompt here has them as one: '<new>'" in told
    assert version.lineage["registered"].keys() >= {"chat_template", "eos_token", "added_words"}


def test_answers_end_where_the_files_beside_an_adapter_say(writing: Home, folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "tide"}))
    version = writing.adapter.register("headlines", folder).version
    tide = writing.backbone().tokenizer.get_vocab()["tide"]
    assert version.config["end_tokens"] == [tide]
    expected = plain_answers(writing.path.parent / "base", folder, TEXTS, end=tide)
    assert expected[0].endswith("tide")
    assert written_here(writing) == [answer.removesuffix("tide").strip() for answer in expected]
    exported = writing.adapter.export(version.reference, tmp_path / "out", for_engine="peft")
    assert not writing.adapter.register("headlines", exported).created


def test_a_tokenizer_that_is_the_bases_own_says_nothing(writing: Home) -> None:
    notes = Notes()
    writing.adapter.register("headlines", FIXTURE, progress=notes)
    assert not [told for told in notes.told if "tokenizer" in told or "template" in told]
