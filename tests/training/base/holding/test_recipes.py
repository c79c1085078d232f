"""What a base's SPEC says of how it is held, and what becomes of its digest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limpet.errors import UsageError
from limpet.home import init
from limpet.registry.records import bases
from limpet.training.base import locate
from limpet.training.base.holding.recipes import split_spec, with_recipe
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.tiny_base(tmp_path_factory.mktemp("held") / "base", "llama")


def test_a_dtype_that_the_files_are_not_in_makes_a_base_of_its_own_too(folder: Path, tmp_path: Path) -> None:
    home = init(tmp_path / "home", base=str(folder), dtype="bfloat16", mlflow="off")
    own, whole = home.base.show(), locate.describe(locate.resolve(str(folder)))
    assert own.name == f"{folder}#bfloat16" and own.digest != whole.digest
    assert home.backbone().held_dtype == "bfloat16"
    assert {p.dtype for p in home.backbone().model.parameters()} == {torch.bfloat16}
    assert locate.describe(locate.resolve(f"{folder}#float32")).digest == whole.digest
    assert bases.get(home.store, own.digest) == own


@pytest.mark.parametrize(
    ("spec", "dtype", "quantize", "said"),
    [
        ("base", "float8", None, "can't be held in 'float8'"),
        ("base", None, "q4", "can't be quantised to 'q4'"),
        ("base", "bfloat16", "nf4", "bfloat16 and nf4 are two"),
        ("base#nf4", None, "int8", "int8 and nf4 are two"),
    ],
)
def test_a_base_is_held_in_one_way_that_there_is(spec: str, dtype: str, quantize: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        with_recipe(spec, dtype, quantize)


def test_a_spec_says_how_a_base_is_held() -> None:
    assert with_recipe("sample:minilm", "auto", None) == "sample:minilm"
    assert with_recipe("sample:minilm#nf4", None, "nf4") == with_recipe("sample:minilm", None, "nf4")
    assert split_spec("folder#1") == ("folder#1", None)
    assert split_spec("org/name@main#int8") == ("org/name@main", "int8")
