"""What the frozen base gave for a text is not asked a second time, and the answers are the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from limpet.forgetting.monitor import monitor
from limpet.home import Home, init
from limpet.registry import versions
from limpet.training.base.backbone import Backbone
from limpet.training.base.frozen_layers import LowerStates
from limpet.training.learning.settings import TrainingSettings
from tests.migrated import with_database
from tests.tiny import tiny_base
from tests.training.typed_data import SPECS, write_rows

pytestmark = pytest.mark.usefixtures("auto_dtype")

PROBE = TrainingSettings("probe", epochs=1, batch_size=8)
TOP = TrainingSettings("partial", {"layers": 1}, epochs=1, batch_size=8)


def first_layer(backbone: Backbone) -> nn.Module:
    """The lowest layer of the base in memory."""
    layer: nn.Module = backbone.model.encoder.layer[0]
    return layer


class Asked:
    """Counts the texts that pass a layer, in the base and in every copy that shares the layer's parameters."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, layer: nn.Module) -> None:
        self.texts = 0
        # in bfloat16 the weights of linear layers are cast copies, and those of norms are the base's own
        plain, own = type(layer).forward, set(map(id, layer.parameters()))

        def forward(module: nn.Module, hidden: torch.Tensor, *others: object, **named: object) -> object:
            if not own.isdisjoint(map(id, module.parameters())):
                self.texts += len(hidden)
            return plain(module, hidden, *others, **named)

        monkeypatch.setattr(type(layer), "forward", forward)


@pytest.mark.parametrize("settings", [PROBE, TOP], ids=lambda one: one.method)
@pytest.mark.parametrize("kind", sorted(SPECS))
def test_evaluations_agree_bit_by_bit(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, settings: TrainingSettings
) -> None:
    task = home.task.add("typed", write_rows(tmp_path / "rows.jsonl", kind), type=kind, max_length=16)
    home.train("typed", settings)
    # another process, another base in memory: only what lies in the cache folder is left
    backbone, version = Home(home.store).backbone(), versions.resolve(home.store, "typed@1")
    asked, counts, records = Asked(monkeypatch, first_layer(backbone)), [], []
    for bypass_cache in (True, False, False):
        records.append(monitor.evaluate(home.store, backbone, version, part=monitor.Part(bypass_cache=bypass_cache)))
        counts.append(asked.texts)
        asked.texts = 0
    examples = task.split("evaluation").examples
    # features lie in a file from the version's own evaluation on; states are in memory from the first one on
    assert counts == [examples, 0 if settings is PROBE else examples, 0]
    assert len({record.logits_digest for record in records}) == 1
    assert len({record.predictions_digest for record in records}) == 1
    backbone.check_unchanged()


def test_heads_of_several_tasks_read_what_the_base_gave_once(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto_dtype: str
) -> None:
    for name, labels in (("one", ("a", "b")), ("other", ("c", "d"))):
        rows = [{"text": f"the wave and stone {number}", "label": labels[number % 2]} for number in range(60)]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        home.task.add(name, f"jsonl:{path}", max_length=16)
    home.train("one", PROBE)
    asked = Asked(monkeypatch, first_layer(home.backbone()))
    home.train("other", PROBE)
    # the texts of the version's fixed inputs alone
    assert asked.texts <= 5 * 2
    kept = {path.name for path in (tmp_path / "cache" / "features").iterdir()}
    # what is served is in float32, and held against what was measured
    assert len(kept) == 3 + (auto_dtype != "float32"), "one file for each split"


def test_who_asks_for_an_evaluation_or_an_audit_has_every_layer_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.train("place", PROBE)
    examples = home.task.show("place").split("evaluation").examples
    asked = Asked(monkeypatch, first_layer(home.backbone()))
    home.evaluate(["place@1"])
    assert asked.texts == examples
    home.evaluate(["place@1"], audit=True)
    assert asked.texts > examples


def test_features_that_were_changed_on_disk_are_computed_again(home: Home, tmp_path: Path) -> None:
    version = home.train("place", PROBE).version
    backbone = home.backbone()
    before = monitor.evaluate(home.store, backbone, version)
    for path in (tmp_path / "cache" / "features").iterdir():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    after = monitor.evaluate(home.store, backbone, version)
    assert (after.score, after.logits_digest) == (before.score, before.logits_digest)


def test_a_run_that_computes_in_another_way_leaves_nothing_behind(home: Home, tmp_path: Path) -> None:
    from limpet.training.learning.learn import learn
    from limpet.training.learning.runs.run_folder import discard
    from limpet.training.learning.training_run import TrainingRun

    task = home.task.show("place")
    for method in ("probe", "partial"):
        settings = TrainingSettings(method, epochs=1, disable=("fused-attention",))
        discard(learn(TrainingRun(home.store, home.backbone(), task, settings)))
    assert not (tmp_path / "cache" / "features").exists()
    assert home.backbone().lower_states._kept == {}


def test_what_is_kept_for_one_method_is_no_memory_of_another(home: Home) -> None:
    home.train("place", TOP)
    assert home.backbone().lower_states._kept
    home.train("wet", PROBE, monitor=False)
    assert not home.backbone().lower_states._kept


def test_what_was_not_used_for_the_longest_time_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LowerStates, "most_bytes", 3 * 4 * 8)
    states = LowerStates()
    for key in "abc":
        states.put(key, [torch.zeros(8)])
    assert states.find("a") is not None
    states.put("d", [torch.zeros(8)])
    assert [states.find(key) is not None for key in "abcd"] == [True, False, True, True]


def test_a_decoder_s_top_layers_read_what_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMPET_CACHE", str(tmp_path / "cache"))
    home = init(with_database(tmp_path / "home"), base=str(tiny_base(tmp_path / "llama", "llama")), mlflow="off")
    home.task.add("typed", write_rows(tmp_path / "rows.jsonl", "classification"), max_length=16)
    version = home.train("typed", TOP).version
    backbone = home.backbone()
    first, second = (
        monitor.evaluate(home.store, backbone, version, part=monitor.Part(bypass_cache=bypass_cache))
        for bypass_cache in (True, False)
    )
    assert first.logits_digest == second.logits_digest
