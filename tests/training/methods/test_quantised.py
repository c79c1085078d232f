"""What `limpet methods` says of quantised bases is what trying found."""

from __future__ import annotations

import json

import pytest

from limpet.home import Home
from limpet.training import methods
from tests.training.methods.quantised import as_text, find


def test_the_flag_of_every_method_is_that_of_the_table(home: Home) -> None:
    table = json.loads(methods.QUANTISED.read_text(encoding="utf-8"))
    assert methods.QUANTISED.read_text(encoding="utf-8") == as_text(table)
    flags = {method.name: method.quantised_base for method in home.methods()}
    assert flags == {name: reason == "" for name, reason in table.items()}
    assert flags["lora"] and not flags["full"]


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_the_table_of_quantised_bases_says_what_trying_finds() -> None:
    said = methods.QUANTISED.read_text(encoding="utf-8")
    assert as_text(find()) == said, "python -m tests.training.methods.quantised"
