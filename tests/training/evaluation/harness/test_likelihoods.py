"""Log-likelihoods of the ends of sequences, and writing until a text comes: as a plain loop finds them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import log_softmax

from limpet.home import init
from limpet.training.base.backbone import Backbone
from limpet.training.evaluation.harness import likelihoods as module
from limpet.training.evaluation.harness.likelihoods import Request, likelihoods
from limpet.training.evaluation.harness.writing import write_until
from limpet.training.heads.plain_text import PlainTextHead
from limpet.training.model.task_model import TaskModel, base_modules
from limpet.training.progress import SILENT
from tests import tiny


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("likelihoods")
    base = tiny.enliven(tiny.tiny_base(folder / "base", "llama"))
    return init(folder / "home", base=str(base), mlflow="off").backbone()


def test_every_request_has_the_likelihood_that_one_run_over_it_alone_gives(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOGITS_AT_ONCE", 3)
    draw = torch.Generator().manual_seed(0)
    whole = [torch.randint(5, 30, (length,), generator=draw).tolist() for length in (5, 9, 9, 20, 41, 6)]
    whole += [[*whole[0][:-1], 7], [*whole[0][:-1], 8]]  # read once with the first
    asked = [1, 4, 9 - 1, 3, 40, 2, 1, 3]
    requests = [Request(tuple(ids[:-1]), tuple(ids[-count:])) for ids, count in zip(whole, asked, strict=True)]
    head = PlainTextHead()
    head.bind_base(backbone)
    model = TaskModel(backbone.model, head, base_modules(backbone)).eval()
    with torch.inference_mode():
        found = likelihoods(model, requests, pad_id=0, device=backbone.device, progress=SILENT)
        for request, (value, is_first) in zip(requests, found, strict=True):
            hidden = backbone.model(input_ids=torch.tensor([request.read])).last_hidden_state[0]
            scores = log_softmax(head.score(hidden[-len(request.asked) :]), dim=-1)
            tokens = torch.tensor(request.asked)
            assert value == pytest.approx(float(scores[range(len(tokens)), tokens].sum()), abs=1e-4)
            assert is_first == bool((scores.argmax(dim=-1) == tokens).all())
    backbone.check_unchanged()


def test_writing_goes_on_in_pieces_until_a_text_ends_or_stops() -> None:
    # each row counts up from its last token; 9 ends a text, and 40 is what stops one
    asked: list[tuple[int, int]] = []

    def write(inputs: dict[str, torch.Tensor], size: int) -> list[list[int]]:
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        asked.append((len(lengths), size))
        rows = []
        for ids, length in zip(inputs["input_ids"].tolist(), lengths, strict=True):
            row = list(range(ids[length - 1] + 1, ids[length - 1] + 1 + size))
            rows.append(row[: row.index(9)] if 9 in row else row)
        return rows

    written = write_until(
        write,
        [[1], [5, 20], [100]],
        most=50,
        has_ended=lambda ids: 40 in ids,
        pad_id=0,
        device=torch.device("cpu"),
    )
    assert written[0] == list(range(2, 9))
    assert 40 in written[1] and written[1] == list(range(21, 69))
    assert written[2] == list(range(101, 151))
    assert asked == [(3, 16), (2, 32), (1, 2)]
