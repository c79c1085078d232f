"""Heads: pooling leaves padding out, and a head comes back from its files as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limpet.errors import IntegrityError, UsageError
from limpet.registry.formats.adapter_files import HEAD_FILES
from limpet.training.heads import AnsweringHead, Head, HeadConfig, StoredHead, TrainableHead, pool
from limpet.training.heads.classification import ClassificationHead
from limpet.training.model.head_files import load_head, save_head

HIDDEN = torch.arange(2 * 4 * 3, dtype=torch.float32).view(2, 4, 3)
RIGHT = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
LEFT = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])


def test_mean_pooling_is_the_mean_over_the_text_only() -> None:
    pooled = pool("mean", HIDDEN, None, attention_mask=RIGHT)
    torch.testing.assert_close(pooled[0], HIDDEN[0, :2].mean(dim=0))
    torch.testing.assert_close(pooled[1], HIDDEN[1].mean(dim=0))


@pytest.mark.parametrize(("mask", "position"), [(RIGHT, 1), (LEFT, 3)], ids=["padded right", "padded left"])
def test_last_pooling_takes_the_last_token_of_the_text(mask: torch.Tensor, position: int) -> None:
    assert torch.equal(pool("last", HIDDEN, None, attention_mask=mask)[0], HIDDEN[0, position])


def test_pooling_ignores_virtual_tokens_in_front_of_the_text() -> None:
    longer = torch.cat([torch.full((2, 5, 3), 99.0), HIDDEN], dim=1)
    assert torch.equal(
        pool("mean", longer, None, attention_mask=RIGHT), pool("mean", HIDDEN, None, attention_mask=RIGHT)
    )


def test_a_pooler_that_the_base_has_not_is_an_error() -> None:
    with pytest.raises(UsageError, match="pooler"):
        pool("pooler", HIDDEN, None, attention_mask=RIGHT)


def test_a_head_comes_back_from_its_files_bit_for_bit(tmp_path: Path) -> None:
    head = ClassificationHead(HeadConfig("classification", "mean", 3, 5))
    save_head(head, tmp_path)
    again = load_head({name: tmp_path / name for name in HEAD_FILES})
    assert again.config == head.config
    assert torch.equal(again(HIDDEN, None, RIGHT), head.eval()(HIDDEN, None, RIGHT))


def test_a_head_whose_tensors_do_not_fit_its_configuration_is_refused(tmp_path: Path) -> None:
    save_head(ClassificationHead(HeadConfig("classification", "mean", 3, 5)), tmp_path)
    text = (tmp_path / "head.json").read_text(encoding="utf-8")
    (tmp_path / "head.json").write_text(text.replace('"labels": 5', '"labels": 4'), encoding="utf-8")
    with pytest.raises(IntegrityError):
        load_head({name: tmp_path / name for name in HEAD_FILES})
    with pytest.raises(IntegrityError, match=r"head\.json"):
        load_head({})


def test_what_is_asked_of_a_head_is_asked_by_training_by_who_answers_or_by_files() -> None:
    kinds = (TrainableHead, AnsweringHead, StoredHead)
    asked = [{name for name in vars(kind) if not name.startswith("_")} for kind in kinds]
    own = {name for name, value in vars(Head).items() if callable(value) or isinstance(value, property | classmethod)}
    assert set().union(*asked) == {name for name in own if not name.startswith("_")} - {"forward", "config_class"}
    assert sum(map(len, asked)) == len(set().union(*asked))
