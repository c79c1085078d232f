"""What people meet in Python: a clean module, typed errors, quiet libraries, progress and tables in notebooks."""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import limpet
from limpet.errors import NotFoundError, UsageError
from limpet.home import Home
from limpet.home.public import public_function
from limpet.registry.formats.html_table import html_table
from limpet.training.progress import Progress
from tests.tiny_home import tiny_home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Home:
    """One home for all: only what reads is done to it."""
    return tiny_home(tmp_path_factory.mktemp("face"), base_folder)


def test_a_dir_of_limpet_shows_the_public_names_alone(home: Home) -> None:
    assert home.task.list()
    assert [name for name in dir(limpet) if not name.startswith("__")] == limpet.__all__


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("train", (3,), {}, "home.train takes a text for 'task', not 3"),
    ("train", ("place",), {"epochs": 3}, "home.train has no option 'epochs'"),
    ("train", ("place",), {"monitor": "yes"}, "The monitor has no mode 'yes'"),
    ("train", (), {}, "missing a required argument: 'task'"),
    ("predict", ("place", "one text"), {}, "takes a list of texts for 'texts', not 'one text'"),
    ("evaluate", ("place",), {}, "takes a list of texts for 'references'"),
    ("evaluate", ([1],), {}, "takes a list of texts for 'references'"),
    ("gc", ("a day",), {}, "takes a whole number for 'grace_seconds'"),
    ("gc", (True,), {}, "takes a whole number for 'grace_seconds'"),
    ("log", (None, 3.5), {}, "takes a whole number for 'limit'"),
    ("report", (Path("x"),), {}, "takes a text or None for 'stream'"),
]


@pytest.mark.parametrize(("verb", "arguments", "options", "said"), WRONG)
def test_a_wrong_argument_is_a_usage_error_that_names_it(
    home: Home, verb: str, arguments: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        getattr(home, verb)(*arguments, **options)
    assert refused.value.hint


def test_nouns_settings_and_the_two_beginnings_are_as_strict(home: Home, tmp_path: Path) -> None:
    for call, said in (
        (lambda: home.task.show(None), "home.task.show takes a text"),
        (lambda: home.task.add("x", "a.csv", max_len=3), "has no option 'max_len'"),
        (lambda: home.task.add("x", "a.csv", train_size="all"), "a whole number or None for 'train_size'"),
        (lambda: home.adapter.list(limit="all"), "home.adapter.list"),
        (lambda: limpet.TrainingSettings(epochs="3"), "TrainingSettings takes a whole number for 'epochs'"),
        (lambda: limpet.TrainingSettings(learning_rate="1e-3"), "takes a number or None for 'learning_rate'"),
        (lambda: limpet.GateRules(max_worst="0.1"), "GateRules takes a number or None for 'max_worst'"),
        (lambda: limpet.open(3), "limpet.open takes a text or a path or None for 'path'"),
        (lambda: limpet.init(tmp_path / "x", bass="sample:minilm"), "limpet.init has no option 'bass'"),
    ):
        with pytest.raises(UsageError, match=said):
            call()


def test_an_option_that_is_misspelt_leads_to_the_nearest(home: Home) -> None:
    with pytest.raises(UsageError) as refused:
        home.train("place", max_forgeting=0.1)  # type: ignore[call-arg]
    assert refused.value.hint == "max_forgetting=..."


def test_numbers_of_numpy_are_numbers(home: Home) -> None:
    settings = limpet.TrainingSettings(epochs=np.int64(2), learning_rate=np.float32(0.5))  # type: ignore[arg-type]
    assert (type(settings.epochs), settings.learning_rate) == (int, 0.5)
    assert len(home.log(None, np.int64(1)).items) == 1  # type: ignore[arg-type]


def test_a_column_of_texts_is_a_list_of_texts(home: Home) -> None:
    with pytest.raises(NotFoundError):  # what it asks for next: a version
        home.predict("nothing", np.array(["a text", "another"]))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="takes a list of texts"):
        home.predict("nothing", np.array([1, 2]))  # type: ignore[arg-type]


def test_warnings_of_libraries_about_themselves_are_quiet_inside_alone() -> None:
    def warn(module: str) -> None:
        warnings.warn_explicit("old", FutureWarning, "file.py", 1, module=module)

    @public_function("home.warns")
    def warns() -> None:
        warn("transformers.modeling_utils")
        warnings.simplefilter("always", ResourceWarning)
        warn("mine")

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = len(warnings.filters)
        warns()
        assert [str(warning.message) for warning in seen] == ["old"]
        # what was set meanwhile stays
        assert len(warnings.filters) == before + 1
        warn("transformers.modeling_utils")
        assert len(seen) == 2


class _Cell:
    """What a notebook's kernel offers: every state of the one place below the cell."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, html: str, display_id: bool) -> _Cell:
        self.shown.append(html)
        return self

    def update(self, html: str) -> None:
        self.shown.append(html)


def in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> _Cell:
    """Let this process look like a notebook's kernel, as far as limpet looks."""
    cell, shell = _Cell(), type("ZMQInteractiveShell", (), {})()
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display.display, display.HTML = cell.display, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return cell


def test_a_notebook_shows_progress_unasked_and_takes_the_bar_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = in_a_notebook(monkeypatch)

    @public_function("home.works")
    def works(progress: Progress | None = None) -> None:
        assert progress is not None
        progress.note("one line")
        progress.start("train <place>", 2)
        progress.advance(1, "loss 0.5")
        raise KeyError("halfway")

    with pytest.raises(KeyError):
        works()
    assert cell.shown[0].startswith("train &lt;place&gt; <progress")
    assert cell.shown[-1] == ""
    assert capsys.readouterr().out == "one line\n"


def test_options_of_a_verb_take_the_notebook_s_progress_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = in_a_notebook(monkeypatch)
    assert home.verify().problems == ()
    assert any("<progress" in shown for shown in cell.shown)
    asked = len(cell.shown)
    with limpet.TerminalProgress(silent=True) as progress:
        home.verify(progress=progress)
    assert len(cell.shown) == asked


def test_a_script_shows_nothing_unasked(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    home.verify()
    assert capfd.readouterr() == ("", "")


def test_values_are_one_line_in_a_console_and_a_table_in_a_notebook(home: Home) -> None:
    task = home.task.show("place")
    assert repr(home) == f"<Home {home.path}>"
    assert repr(task).startswith("<TaskRecord place@r1: classification, 3 labels, train ")
    assert "place" in home._repr_html_() and "limpet train place" in home._repr_html_()
    assert f"<td>{task.data_digest}" not in task._repr_html_() and task.splits[0].digest in task._repr_html_()


def test_tables_escape_what_people_wrote() -> None:
    table = html_table("<title>", ("<column>",), [("<b>cell</b>",), (None,), (0.5,)])
    assert "<title>" not in table and "<column>" not in table and "<b>cell" not in table
    assert "<td>-</td>" in table and "<td>0.5000</td>" in table
