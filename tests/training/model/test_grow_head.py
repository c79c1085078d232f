"""A head for other labels: the rows of those that it had are kept by name, bit for bit."""

from __future__ import annotations

import pytest
import torch

from limpet.training.heads import Head, HeadConfig
from limpet.training.heads.classification import ClassificationHead
from limpet.training.heads.multi_label import MultiLabelHead
from limpet.training.heads.token_classification import TokenConfig, TokenHead
from limpet.training.model.head_files import grow_head

WIDTH = 6
BEFORE = ("bread", "milk", "wine")


def head(kind: str, labels: tuple[str, ...], *, bias: bool = True, dropout: float = 0.1) -> Head:
    """A head with weights of its own, as it is after training."""
    options = {"bias": bias, "dropout": dropout}
    if kind == "token-classification":
        config = TokenConfig(kind, "words", WIDTH, len(labels), tags=labels, unseen=labels[-1], **options)
        made: Head = TokenHead(config)
    else:
        of_type = {"classification": ClassificationHead, "multi-label": MultiLabelHead}[kind]
        made = of_type(HeadConfig(kind, "mean", WIDTH, len(labels), **options))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


@pytest.mark.parametrize("kind", ["classification", "multi-label", "token-classification"])
@pytest.mark.parametrize(
    "labels",
    [(*BEFORE, "salt", "tea"), ("wine", "bread"), ("salt", "wine", "tea", "bread", "milk")],
    ids=["more", "fewer", "in another order"],
)
def test_the_rows_of_labels_that_stay_are_kept_by_name(kind: str, labels: tuple[str, ...]) -> None:
    old, new = head(kind, BEFORE), head(kind, labels)
    grown = grow_head(old, BEFORE, new, labels=labels)
    for row, label in enumerate(labels):
        source, at = (old, BEFORE.index(label)) if label in BEFORE else (new, row)
        assert torch.equal(grown.linear.weight[row], source.linear.weight[at])
        assert torch.equal(grown.linear.bias[row], source.linear.bias[at])
    assert type(grown) is type(old)
    assert grown.config == new.config
    kept = [label for label in labels if label in BEFORE]
    features = torch.randn(5, WIDTH)
    torch.testing.assert_close(
        grown.score(features)[:, [labels.index(label) for label in kept]],
        old.eval().score(features)[:, [BEFORE.index(label) for label in kept]],
    )


def test_how_the_old_head_reads_features_stays_whatever_a_new_one_would_do() -> None:
    labels = (*BEFORE, "salt")
    # as it is of an adapter that was learned elsewhere
    old, new = head("classification", BEFORE, bias=False, dropout=0.0), head("classification", labels)
    grown = grow_head(old, BEFORE, new, labels=labels)
    assert grown.linear.bias is None
    assert (grown.config.dropout, grown.config.bias, grown.config.labels) == (0.0, False, 4)
    assert torch.equal(grown.linear.weight[:3], old.linear.weight)


def test_the_heads_that_it_is_made_of_are_not_changed_by_what_it_learns() -> None:
    old, new = head("classification", BEFORE), head("classification", (*BEFORE, "salt"))
    before = [parameter.clone() for parameter in (*old.parameters(), *new.parameters())]
    grown = grow_head(old, BEFORE, new, labels=(*BEFORE, "salt"))
    with torch.no_grad():
        for parameter in grown.parameters():
            parameter.zero_()
    assert all(map(torch.equal, before, (*old.parameters(), *new.parameters())))
