"""Whole fine-tuned copies of the base: made into a LoRA, with what that loses, or refused with what it would take."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from limpet.errors import IntegrityError, NotFoundError, UsageError
from limpet.home import Home, init
from limpet.training.adoption.low_rank_change import Change, factorise
from tests.tiny import tiny_base
from tests.training.adoption.test_adopt import TEXTS, plain_backbone
from tests.training.generation.test_generation import a_home

QUERY = "bert.encoder.layer.0.attention.self.query"
NORM = "bert.encoder.layer.0.output.LayerNorm.weight"


def fine_tuned(base: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> torch.Tensor:
    """Save a classifier on the base with some of its weights changed, and return its logits for TEXTS."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(3)
    model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3).eval()
    with torch.no_grad():
        change(dict(model.named_parameters()))
        model.classifier.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    model.save_pretrained(folder, max_shard_size="30KB")
    tokens = AutoTokenizer.from_pretrained(base)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    return logits


def add_rank(name: str, rank: int, size: float = 0.3) -> Callable[[dict[str, torch.Tensor]], None]:
    """A change of one matrix that has this rank."""

    def change(parameters: dict[str, torch.Tensor]) -> None:
        weight = parameters[f"{name}.weight"]
        weight += size * torch.randn(weight.shape[0], rank) @ torch.randn(rank, weight.shape[1])

    return change


def logits_of(home: Home) -> torch.Tensor:
    """The logits of the newest version for TEXTS."""
    return torch.tensor([answer.logits for answer in home.predict("place", TEXTS)])


def test_a_copy_whose_change_has_a_low_rank_keeps_its_logits_head_and_biases(home: Home, tmp_path: Path) -> None:
    def change(parameters: dict[str, torch.Tensor]) -> None:
        add_rank(QUERY, 2)(parameters)
        add_rank("bert.pooler.dense", 1)(parameters)
        parameters[f"{QUERY}.bias"] += 0.2
        parameters["bert.encoder.layer.1.output.dense.bias"] += 0.1

    expected = fine_tuned(tmp_path / "base", tmp_path / "copy", change)
    version = home.adapter.register("place", from_model=tmp_path / "copy", rank=0.999).version
    torch.testing.assert_close(logits_of(home), expected, rtol=0, atol=1e-5)
    made = version.lineage["registered"]["from_model"]
    assert (made["flips"], made["left_out"], made["energy_kept"]) == (0, {}, pytest.approx(1, abs=1e-3))
    assert made["energy_by_rank"]["1"] < 0.99 < made["energy_by_rank"]["2"]
    assert version.config["method"] == {"r": 2, "alpha": 2}
    again = home.adapter.register("place", from_model=tmp_path / "copy", rank=0.999)
    assert not again.created


def change_everything(parameters: dict[str, torch.Tensor]) -> None:
    """A change of a low rank, of biases, norms and some rows of embeddings."""
    add_rank(QUERY, 1)(parameters)
    parameters[f"{QUERY}.bias"] += 0.2
    parameters["bert.encoder.layer.1.output.dense.bias"] += 0.1
    parameters[NORM] += 0.3
    parameters["bert.embeddings.LayerNorm.bias"] += 0.3
    parameters["bert.embeddings.word_embeddings.weight"][[7, 20, 25]] += torch.randn(3, 32)


def test_norms_biases_and_rows_of_embeddings_are_kept_as_they_are(home: Home, tmp_path: Path) -> None:
    expected = fine_tuned(tmp_path / "base", tmp_path / "copy", change_everything)
    home.adapter.register("place", plain_backbone(tmp_path / "base", tmp_path / "other"))
    before = logits_of(home)
    version = home.adapter.register("place", from_model=tmp_path / "copy", rank=2).version
    torch.testing.assert_close(logits_of(home), expected, rtol=0, atol=1e-5)
    made = version.lineage["registered"]["from_model"]
    assert (made["flips"], made["left_out"], made["energy_kept"]) == (0, {}, pytest.approx(1, abs=1e-5))
    # the base's norms are its own again
    assert torch.equal(torch.tensor([answer.logits for answer in home.predict("place@1", TEXTS)]), before)
    home.backbone().check_unchanged()
    mixed = home.serve().predict([("place@2", TEXTS[0]), ("place@1", TEXTS[0]), ("place@2", TEXTS[1])])
    served = torch.tensor([vars(mixed[at].answer)["logits"] for at in (0, 2)])
    torch.testing.assert_close(served, expected[:2], rtol=0, atol=1e-5)
    exported = home.adapter.export(version.reference, tmp_path / "out")
    assert not home.adapter.register("place", exported).created


def test_of_rows_of_embeddings_those_that_changed_most_are_kept(home: Home, tmp_path: Path) -> None:
    def change(parameters: dict[str, torch.Tensor]) -> None:
        parameters[f"{QUERY}.bias"] += 0.2
        parameters["bert.embeddings.word_embeddings.weight"] += 0.01
        parameters["bert.embeddings.word_embeddings.weight"][[7, 20]] += 1

    fine_tuned(tmp_path / "base", tmp_path / "copy", change)
    version = home.adapter.register("place", from_model=tmp_path / "copy", rank=1).version
    exported = home.adapter.export(version.reference, tmp_path / "out")
    config = json.loads((exported / "adapter_config.json").read_text())
    assert config["trainable_token_indices"] == {"embeddings.word_embeddings": [7, 20]}
    assert 0.9 < version.lineage["registered"]["from_model"]["energy_kept"] < 1


def test_a_copy_of_which_norms_alone_changed_is_an_adapter(home: Home, tmp_path: Path) -> None:
    def change(parameters: dict[str, torch.Tensor]) -> None:
        parameters[NORM] += 0.3

    expected = fine_tuned(tmp_path / "base", tmp_path / "copy", change)
    version = home.adapter.register("place", from_model=tmp_path / "copy", rank=0.95).version
    torch.testing.assert_close(logits_of(home), expected, rtol=0, atol=1e-5)
    elsewhere = init(tmp_path / "elsewhere", base=str(tmp_path / "base"), mlflow="off")
    bundle = home.adapter.export(version.reference, tmp_path / "norms.limpet")
    taken, _ = elsewhere.adapter.import_bundle(bundle, mirror=False)
    assert taken.digest == version.digest
    assert torch.equal(logits_of(elsewhere), logits_of(home))


def test_embeddings_are_kept_by_the_layer_where_no_bias_changed(home: Home, tmp_path: Path) -> None:
    expected = fine_tuned(tmp_path / "base", tmp_path / "copy", add_rank("bert.embeddings.word_embeddings", 3))
    home.adapter.register("place", from_model=tmp_path / "copy", rank=3)
    torch.testing.assert_close(logits_of(home), expected, rtol=0, atol=1e-5)


def test_a_copy_in_a_smaller_dtype_changed_what_is_not_rounding(home: Home, tmp_path: Path) -> None:
    fine_tuned(tmp_path / "base", tmp_path / "copy", add_rank(QUERY, 1))
    for path in (tmp_path / "copy").glob("*.safetensors"):
        save_file(
            {name: t.to(torch.bfloat16) for name, t in load_file(path).items()}, path, metadata={"format": "pt"}
        )
    version = home.adapter.register("place", from_model=tmp_path / "copy", rank=1).version
    assert [file.name for file in version.files].count("adapter_model.safetensors") == 1
    exported = home.adapter.export(version.reference, tmp_path / "out")
    assert len(load_file(exported / "adapter_model.safetensors")) == 2


def test_what_has_no_low_rank_is_refused_with_the_curve(home: Home, tmp_path: Path) -> None:
    fine_tuned(tmp_path / "base", tmp_path / "copy", add_rank(QUERY, 3200, size=0.005))
    with pytest.raises(UsageError, match=r"no low rank: to keep 95 % .* rank 1 keeps [0-9.]+ %, rank 2 keeps"):
        home.adapter.register("place", from_model=tmp_path / "copy", rank=0.95)
    version = home.adapter.register("place", from_model=tmp_path / "copy", rank=4).version
    assert 0.2 < version.lineage["registered"]["from_model"]["energy_kept"] < 0.9


@pytest.fixture
def writing(tmp_path: Path) -> tuple[Home, Path]:
    """A home with a task of generation, and a whole copy of its base to change."""
    home = a_home(tmp_path, "llama")
    return home, Path(shutil.copytree(tmp_path / "base", tmp_path / "copy"))


def change_file(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the tensors of a model of one file."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_copy_that_writes_keeps_its_norms_also_where_plain_peft_loads_the_export(
    writing: tuple[Home, Path], tmp_path: Path
) -> None:
    home, copy = writing

    def change(tensors: dict[str, torch.Tensor]) -> None:
        torch.manual_seed(1)
        add_rank("model.layers.0.self_attn.q_proj", 2)(tensors)
        tensors["model.norm.weight"] += torch.randn(32)
        tensors["model.layers.1.input_layernorm.weight"] += torch.randn(32)

    change_file(copy, change)
    version = home.adapter.register("headlines", from_model=copy, rank=2).version
    assert version.lineage["registered"]["from_model"]["flips"] == 0
    exported = home.adapter.export(version.reference, tmp_path / "out", for_engine="peft")
    expected = plain_logits(copy)
    torch.testing.assert_close(plain_logits(tmp_path / "base", exported), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(plain_logits(tmp_path / "base"), expected, atol=1e-2)
    assert not home.adapter.register("headlines", exported).created


def plain_logits(base: Path, adapter: Path | None = None) -> torch.Tensor:
    """The logits of words that transformers, or plain peft, give for a few tokens."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(model, adapter) if adapter else model
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=torch.tensor([[7, 8, 15, 3, 11]])).logits
    return logits


def test_more_left_out_than_may_be_lost_is_refused_by_name(writing: tuple[Home, Path]) -> None:
    home, copy = writing

    def change(tensors: dict[str, torch.Tensor]) -> None:
        add_rank("model.layers.0.self_attn.q_proj", 1, size=0.01)(tensors)
        tensors["lm_head.weight"] += 0.1

    change_file(copy, change)
    with pytest.raises(UsageError, match=r"9\d\.\d % of what .* a LoRA can't hold \(lm_head.weight"):
        home.adapter.register("headlines", from_model=copy, rank=0.95)


def test_what_is_no_copy_of_the_base_is_refused(home: Home, tmp_path: Path) -> None:
    fine_tuned(tmp_path / "base", tmp_path / "same", lambda parameters: None)
    with pytest.raises(UsageError, match=r"is the base .* itself"):
        home.adapter.register("place", from_model=tmp_path / "same", rank=4)
    fine_tuned(tiny_base(tmp_path / "wider", hidden=64), tmp_path / "wide", lambda parameters: None)
    with pytest.raises(IntegrityError, match=r"no fine-tuned copy of the base .*\n  \d+ of another shape"):
        home.adapter.register("place", from_model=tmp_path / "wide", rank=4)
    llama = tiny_base(tmp_path / "llama", "llama")
    with pytest.raises(IntegrityError, match=r"\d+ tensors are missing"):
        home.adapter.register("place", from_model=llama, rank=4)
    adapter = plain_backbone(tmp_path / "base", tmp_path / "adapter")
    with pytest.raises(UsageError, match="It is an adapter"):
        home.adapter.register("place", from_model=adapter, rank=4)
    shutil.rmtree(adapter)
    with pytest.raises(NotFoundError, match="There is no folder"):
        home.adapter.register("place", from_model=adapter, rank=4)


@pytest.mark.parametrize(
    "options",
    [{}, {"from_model": "copy"}, {"from_model": "copy", "rank": 1.5}, {"from_model": "copy", "rank": 0}, {"rank": 4}],
    ids=str,
)
def test_a_copy_needs_a_rank_and_an_adapter_has_its_own(home: Home, options: dict[str, Any]) -> None:
    folder = "adapter" if "from_model" not in options and options else None
    with pytest.raises(UsageError):
        home.adapter.register("place", folder, **options)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
@pytest.mark.parametrize("rank", [2, 0.8, 40])
def test_factors_are_the_nearest_of_their_rank(shape: tuple[int, int], rank: float) -> None:
    torch.manual_seed(0)
    delta, change = torch.randn(shape), Change()
    factors = factorise(delta, rank, change)
    u, s, v = torch.linalg.svd(delta.double(), full_matrices=False)
    energy = (s**2).cumsum(0) / (s**2).sum()
    kept = int((energy < rank).sum()) + 1 if rank < 1 else min(int(rank), len(s))
    assert factors.rank == kept
    nearest = (u[:, :kept] * s[:kept]) @ v[:kept]
    torch.testing.assert_close(factors.b @ factors.a, nearest.float(), rtol=1e-4, atol=1e-5)
    assert change.share == pytest.approx(float(energy[kept - 1]))
    assert change.curve()["2"] == pytest.approx(float(energy[1]), abs=1e-4)
