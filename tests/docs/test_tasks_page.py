"""docs/reference/tasks.md names every type of task and every metric, each beside the types that have it."""

from __future__ import annotations

import re

from limpet.training import task_types
from tests.docs.pages import REFERENCE

PAGE = (REFERENCE / "tasks.md").read_text(encoding="utf-8")


def test_the_page_lists_the_types_and_metrics_that_there_are() -> None:
    types = set(re.findall(r"^\| `([a-z-]+)` \| (?:a text|words) ", PAGE, re.MULTILINE))
    assert types == set(task_types.names())
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| ([a-z, -]+) \| .+ \|$", PAGE.partition("## Metrics")[2], re.MULTILINE)
    listed = {(metric, kind) for metric, kinds in rows for kind in kinds.split(", ")}
    assert listed == {(one.name, kind.name) for kind in task_types.every() for one in kind.metrics}
