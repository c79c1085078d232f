"""The documentation is true: its commands run, print what the pages show, and exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from limpet.cli import COMMANDS, cli
from limpet.forgetting import strategies
from limpet.forgetting.gate.parse import OF_ALL, parse_rules
from limpet.forgetting.metrics.forgetting import DEFINITIONS
from limpet.forgetting.stream.published_figures import published_figures
from limpet.forgetting.stream.stream_file import parse_stream, ready_streams
from limpet.registry.settings import load_settings
from limpet.registry.versions.costs import COSTS, LATENCY
from limpet.training import methods
from tests.docs.pages import DOCS, GUIDES, PAGES, REFERENCE, ROOT, File, address, blocks, prose, steps
from tests.tiny import tiny_base
from tests.warm import Warm

TUTORIAL, ADAPTERS = DOCS / "tutorial" / "two-tasks.md", GUIDES / "adapters.md"
QUARTER = DOCS / "tutorial" / "quarter.md"
METHODS = REFERENCE / "methods.md"
# every page with console blocks, each followed by a test below
TYPED = {ROOT / "README.md", TUTORIAL, QUARTER, ADAPTERS, METHODS, REFERENCE / "errors.md", REFERENCE / "home.md"} | {
    GUIDES / f"{name}.md" for name in ("bulk", "cost", "lifecycle", "serving", "verify")
}
# the pages speak of this folder, and of the sample base where its wheel is unpacked
FOLDER, SAMPLE_BASE = "/home/ada/support", "~/.cache/limpet/bases/minilm-0.1.0"


@dataclass(frozen=True)
class Shell:
    """A reader's machine: a folder, and a PATH with `limpet` and a `python` that cannot import limpet."""

    folder: Path
    base: Path
    environment: dict[str, str]

    def type(self, line: str) -> tuple[int, list[str]]:
        """Return exit code and printed lines of a command line, its paths and digests as the pages write them."""
        line = line.replace(SAMPLE_BASE, shlex.quote(str(self.base)))
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        said = done.stdout.replace(str(self.folder), FOLDER).replace(str(self.base), "sample:minilm")
        said = re.sub(r"sha256:[0-9a-f]{64}", "sha256:...", said)
        return done.returncode, said.rstrip("\n").splitlines()

    def save(self, file: File) -> None:
        (self.folder / file.name).write_text(file.text, encoding="utf-8")

    def ok(self, line: str) -> list[str]:
        code, said = self.type(line)
        assert code == 0, f"$ {line}\n" + "\n".join(said)
        return said


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Path:
    """A folder for the PATH, with `limpet`, `python`, and `python-with-limpet` for what the pages say of Python."""
    folder = tmp_path_factory.mktemp("bin")
    warm.script(folder / "limpet", "limpet", first=("-m", "limpet"))
    warm.script(folder / "python", "libraries", without=("limpet",))
    warm.script(folder / "python-with-limpet", "limpet")
    return folder


@pytest.fixture(scope="session")
def roomy_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with positions for all that the pages' tasks read of a text."""
    return tiny_base(tmp_path_factory.mktemp("roomy") / "tiny-bert", positions=256)


@pytest.fixture
def shell(commands: Path, base_folder: Path, tmp_path: Path) -> Shell:
    """A new folder with the tutorial's files in it; the home's base is a tiny one, and it has no mirror."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIMPET_")}
    folder = tmp_path / "support"
    folder.mkdir()
    environment = kept | {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "LIMPET_BASE": str(base_folder),
        "LIMPET_CACHE": str(tmp_path / "cache"),
        "LIMPET_LATENCY_SECONDS": "0",
        # where a page mirrors, nothing outlives its test
        "LIMPET_MIRROR_SECONDS": "60",
        "LIMPET_MLFLOW": "off",
        "LOGNAME": "ada",
        "OMP_NUM_THREADS": "1",
    }
    made = Shell(folder, base_folder, environment)
    for step in steps(TUTORIAL):
        if isinstance(step, File):
            made.save(step)
    return made


def shape(lines: list[str] | tuple[str, ...]) -> list[str]:
    """What of an output is the same on every machine and base: the words, and where numbers and digests stand."""
    text = "\n".join(lines)
    text = re.sub(r"sha256:\S+|\b[0-9a-f]{12}\b", "DIGEST", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+Z?", "TIME", text)
    text = re.sub(r"[\d.]+ (kB|MB|GB|B)\b", "SIZE", text)
    text = re.sub(r"^took [\d.]+ s$", "took TIME", text, flags=re.MULTILINE)
    text = re.sub(r"[+-]?\b\d\.\d+", "SCORE", text)
    text = re.sub(r"\d+ of \d+ examples lost and \d+ gained \(McNemar p [=<] SCORE\)", "FLIPS", text)
    # what is fast differs from processor to processor
    text = re.sub(r"^products in \w+, \d+ threads?.*$", "products in DTYPE", text, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.splitlines()]


def follow(page: Path, shell: Shell, instead: Mapping[str, str] | None = None) -> None:
    """Save and type everything that a page says, or `instead` of it; where it shows output, insist on its shape."""
    for step in steps(page):
        if isinstance(step, File):
            shell.save(step)
            continue
        said = shell.ok((instead or {}).get(step.line, step.line))
        if step.printed:
            assert shape(said) == shape(step.printed), step.line


def test_the_tutorial_does_what_it_says(shell: Shell, roomy_base: Path) -> None:
    shell.environment["LIMPET_BASE"] = str(roomy_base)
    follow(TUTORIAL, shell)
    assert "identical_predictions" in (shell.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_quarter_with_five_tasks_whose_data_change_does_what_its_page_says(shell: Shell) -> None:
    follow(QUARTER, shell, instead={"python mails.py": "python mails.py 0.25"})
    check_quarter(shell)


@pytest.mark.slow
@pytest.mark.sample
def test_the_whole_quarter_on_the_sample_base_learns_the_new_label_and_keeps_the_old_ones(shell: Shell) -> None:
    shell.environment["LIMPET_BASE"] = "sample:minilm"
    shell.environment["LIMPET_CACHE"] = os.environ["LIMPET_CACHE"]
    follow(QUARTER, shell)
    scores = check_quarter(shell)
    assert min(scores["old"], scores["new"]) >= 0.95


def check_quarter(shell: Shell) -> dict[str, float]:
    """Insist on what thirteen weeks came to; return the scores of what serves on old, new and all rows."""
    asked, answered = (
        (shell.folder / name).read_text(encoding="utf-8").splitlines() for name in ("inbox.csv", "answers.csv")
    )
    assert [line.partition(",")[0] for line in answered] == [line.partition(",")[0] for line in asked]
    revisions = [line.split() for line in shell.ok("limpet task show routing --revisions")[1:]]
    assert [words[0] for words in revisions] == ["r1", "r2", "r3", "r4", "r5"]
    shell.ok("limpet adapter show routing@production --json > version.json")
    version = json.loads((shell.folder / "version.json").read_text(encoding="utf-8"))
    assert (version["version"], version["labels"]) == (3, ["billing", "delivery", "technical", "returns"])
    tasks = [line.split() for line in shell.ok("limpet task list")[1:]]
    assert [words[0] for words in tasks] == ["routing", "urgency", "tone", "orders"]
    # the rows of all revisions are trained and evaluated on
    assert (tasks[0][3], tasks[0][5]) == (revisions[-1][5], revisions[-1][6])
    scores: dict[str, float] = version["metrics"]["scores"]
    return scores


def test_the_tour_of_the_readme_runs_and_so_does_its_python(shell: Shell) -> None:
    page = ROOT / "README.md"
    follow(page, shell)
    (source,) = [block.text for block in blocks(page) if block.info == "python"]
    (shell.folder / "tour.py").write_text(source, encoding="utf-8")
    said = shell.ok("python-with-limpet tour.py 2> log.txt")
    assert said[0].startswith("team@2 {")
    assert said[-1] == "0.0"


def test_an_export_gives_plain_peft_the_logits_of_limpet(shell: Shell) -> None:
    follow(ADAPTERS, shell)
    plain = json.loads((shell.folder / "plain.json").read_text(encoding="utf-8"))
    own = json.loads((shell.folder / "limpet.json").read_text(encoding="utf-8"))["predictions"]
    assert plain["labels"] == [answer["label"] for answer in own]
    assert len(plain["logits"]) == 2
    for theirs, answer in zip(plain["logits"], own, strict=True):
        assert theirs == pytest.approx(answer["logits"], abs=1e-5)
    assert "registered team@3 (lora" in (shell.folder / "register.txt").read_text(encoding="utf-8")


def test_the_page_of_checks_does_what_it_says(shell: Shell) -> None:
    follow(GUIDES / "verify.md", shell)
    verified = json.loads((shell.folder / "verified.json").read_text(encoding="utf-8"))
    assert verified["problems"] == []
    assert (verified["checked"]["versions"], verified["checked"]["probes"]) == (2, 2)
    assert json.loads((shell.folder / "doctor.json").read_text(encoding="utf-8"))["healthy"] is True


def test_the_page_of_the_life_cycle_does_what_it_says(shell: Shell) -> None:
    follow(GUIDES / "lifecycle.md", shell)
    names = ("deleted", "tombstone", "removed", "version", "log")
    text = {name: (shell.folder / f"{name}.txt").read_text(encoding="utf-8") for name in names}
    assert text["deleted"].startswith("deleted team@1 (")
    assert "by ada: labels were wrong" in text["tombstone"]
    assert "removed 1 version and " in text["removed"]
    assert "note by ada" in text["version"]
    gone = (shell.folder / "task-gone.txt").read_text(encoding="utf-8")
    assert "The task 'support' was removed by ada on 20" in gone and gone.count("handed over") == 1
    assert [line.split()[3] for line in text["log"].splitlines()[1:]] == ["note", "tag", "tag"]


@pytest.mark.slow
def test_the_page_of_serving_does_what_it_says(shell: Shell) -> None:
    follow(GUIDES / "serving.md", shell)
    said = shell.ok("python-with-limpet answers.py 2> log.txt")
    answers = json.loads((shell.folder / "answers.json").read_text(encoding="utf-8"))["answers"]
    assert [answer["version"] for answer in answers] == ["team@1", "urgency@1", "team@1"]
    assert said == [f"{answer['version']} {answer['answer']['label']}" for answer in answers[:2]]
    alone = json.loads("\n".join(shell.ok('limpet predict team@1 "I was charged twice." --json 2> log.txt')))
    assert answers[2]["answer"]["label"] == alone["predictions"][0]["label"]


@pytest.mark.slow
def test_the_page_of_bulk_answers_does_what_it_says(shell: Shell) -> None:
    follow(GUIDES / "bulk.md", shell)
    assert shell.ok("python-with-limpet bulk.py 2> log.txt")[1] == "2 {'empty': 1}"
    summary = json.loads((shell.folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["version"], summary["already"], summary["answered"]) == (1, True, 2)
    answers = (shell.folder / "answers.csv").read_text(encoding="utf-8").splitlines()
    assert answers[0] == "id,message,received,prediction"
    assert [line.split(",")[0] for line in answers[1:]] == ["0017", "0018", "0019"]


def test_scripts_of_the_pages_cannot_import_limpet(shell: Shell) -> None:
    code, said = shell.type("python -c 'import limpet'")
    assert code == 1
    assert said[-1] == "ImportError: this script must not need limpet"


def test_every_error_says_what_the_page_says(shell: Shell) -> None:
    """Commands run in the page's order; `echo $?` shows the exit code of the command above it."""
    del shell.environment["LIMPET_BASE"]
    tiny_base(shell.folder / "rock")
    code, codes = 0, []
    for step in steps(REFERENCE / "errors.md"):
        if isinstance(step, File):
            shell.save(step)
        elif step.line == "echo $?":
            assert step.printed == (str(code),)
            codes.append(code)
        else:
            code, said = shell.type(step.line)
            assert tuple(said) == step.printed, step.line
    assert len(codes) >= 10
    assert set(codes) == {1, 2, 3, 4, 5, 6}


def _typed_commands(page: Path) -> list[list[str]]:
    """Every `limpet ...` of a page, in words: lines of console and sh blocks, and inline code."""
    lines = re.findall(r"`([^`]+)`", prose(page))
    for block in blocks(page):
        # what is typed on the page of errors is wrong on purpose
        if block.info == "sh" or (block.info == "console" and page.name != "errors.md"):
            lines += block.text.splitlines()
    typed = (re.match(r"(?:\$ )?limpet\s(.*)", " ".join(line.split())) for line in lines)
    return [match[1].split() for match in typed if match]


@pytest.mark.parametrize("page", PAGES, ids=address)
def test_every_command_of_the_pages_exists_with_its_options(page: Path) -> None:
    for words in _typed_commands(page):
        check_command(page, words)


def check_command(page: Path, words: list[str]) -> None:
    """Insist that a command exists, and that it has the options it is typed with."""
    context = click.Context(cli, info_name="limpet")
    command: click.Command = cli
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{page.name}: limpet {' '.join(words)}"
        command, words = found, words[1:]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {
        "--help",
        "--version",
    }
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert options <= known, f"{page.name}: {command.name} has no {options - known}"


def test_the_pages_mention_every_command() -> None:
    typed = {words[0] for page in PAGES for words in _typed_commands(page) if words}
    assert set(COMMANDS) <= typed


def test_the_stream_of_the_streams_page_is_a_stream() -> None:
    written = [yaml.safe_load(block.text) for block in blocks(GUIDES / "streams.md") if block.info == "yaml"]
    stream, ability, figures = written
    spec = parse_stream(stream | figures)
    assert [arm.name for arm in spec.arms] == ["isolated", "sequential-full", "sequential-shared"]
    # a probe's data may not be learned too, so its example stands on a stream of other tasks
    asked = parse_stream(stream | ability | {"tasks": ["bbc-news", "reuters-r8"]})
    assert [probe.kind for probe in asked.ability] == ["perplexity", "zero-shot"]
    assert len(published_figures(spec.source)) == 1


def test_every_strategy_and_setting_has_its_line_on_the_streams_page() -> None:
    text = prose(GUIDES / "streams.md")
    lines = dict(re.findall(r"^\| `([a-z-]+)` \|(.*)$", text, re.MULTILINE))
    for name in strategies.names():
        for key, default in strategies.get(name).settings.items():
            shown = f"{default:g}" if isinstance(default, float) else default
            assert f"`{key}: {shown}`" in lines[name], name
    assert all(f"`{name}`" in text for name in ready_streams() if not name.startswith("text"))


def test_every_rule_of_the_gate_has_its_line_and_the_page_s_files_are_right() -> None:
    page = GUIDES / "gate.md"
    text = prose(page)
    for key in ("require_identical", *OF_ALL):
        assert f"`--{key.replace('_', '-')}" in text and f"`{key}`" in text
    (settings,) = [block.text for block in blocks(page) if block.info == "toml"]
    rules = parse_rules(tomllib.loads(settings)["gate"], "docs/guides/gate.md")
    assert rules.require_identical and rules.of("urgency").min_score == 0.85
    (workflow,) = [step for step in steps(page) if isinstance(step, File)]
    job = yaml.safe_load(workflow.text)["jobs"]["gate"]
    typed = [step["run"] for step in job["steps"] if str(step.get("run", "")).startswith("limpet ")]
    assert len(typed) == 4
    for line in typed:
        check_command(page, shlex.split(line.partition(" >")[0])[1:])


def test_the_page_of_the_home_runs(shell: Shell) -> None:
    follow(REFERENCE / "home.md", shell)
    assert (shell.folder / "emptied.txt").read_text(encoding="utf-8").startswith("removed ")


def test_no_page_types_commands_that_no_test_runs() -> None:
    assert {page for page in PAGES if any(block.info == "console" for block in blocks(page))} == TYPED


def test_the_methods_page_runs(shell: Shell) -> None:
    follow(METHODS, shell)
    assert "peft:loha" in (shell.folder / "list.txt").read_text(encoding="utf-8")
    assert "bottleneck" in (shell.folder / "methods.txt").read_text(encoding="utf-8")


def test_the_methods_page_says_what_works_where() -> None:
    text, own = prose(METHODS), [name for name in methods.names() if ":" not in name]
    table = json.loads(methods.TABLE.read_text(encoding="utf-8"))
    for kind, found in table.items():
        line = " | ".join([kind, *("no" if found[name] else "yes" for name in own)])
        assert f"| {line} |" in text
    for name in methods.names():
        reasons = {found[name] for found in table.values()}
        if ":" in name and "" not in reasons:
            assert f"| `{name}` | {reasons.pop()} |" in text
        elif ":" in name and not table["gpt2"][name]:
            assert f"`{name}`" in text.rpartition("whose linear layers")[2]


def test_the_page_of_costs_runs_and_has_every_figure_with_its_definition(shell: Shell) -> None:
    page = GUIDES / "cost.md"
    del shell.environment["LIMPET_LATENCY_SECONDS"]
    follow(page, shell)
    lines = prose(page).splitlines()
    assert all(f"| `{key}` | {definition} |" in lines for key, definition in (COSTS | LATENCY).items())
    cost = json.loads((shell.folder / "version.json").read_text(encoding="utf-8"))["cost"]
    assert None not in cost.values() and cost["against_full"]["version"] == "team@1"
    methods_of_bench = json.loads((shell.folder / "bench.json").read_text(encoding="utf-8"))["methods"]
    assert [row["method"] for row in methods_of_bench] == ["lora", "probe"]
    assert "bottleneck" in (shell.folder / "bench.txt").read_text(encoding="utf-8")


def test_every_metric_has_its_line_on_the_monitor_page() -> None:
    text = prose(REFERENCE / "monitor.md")
    assert all(f"| `{key}` |" in text for key in DEFINITIONS)


def test_every_environment_variable_is_on_the_home_page_and_read_by_the_program() -> None:
    listed = set(re.findall(r"`(LIMPET_[A-Z]+(?:_[A-Z]+)*)`", prose(REFERENCE / "home.md")))
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "limpet").rglob("*.py"))
    read = set(re.findall(r"environ(?:\.get\(|\[)\"(LIMPET_[A-Z_]+)\"", source))
    # the settings' variables are built from their names
    settings = {f"LIMPET_{name.upper()}" for name in vars(load_settings(ROOT / "nowhere"))}
    assert listed == read | settings


def test_every_dependency_has_its_reason() -> None:
    project = _project()
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    names = {re.split(r"[\[<>=;]", one)[0] for one in wanted}
    lines = prose(REFERENCE / "dependencies.md").splitlines()
    listed = {name for line in lines if line.startswith("| `") for name in re.findall(r"`([A-Za-z0-9-]+)`", line)}
    assert names <= listed


def test_the_changelog_has_the_current_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## \[([^\]]+)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert first is not None
    assert first[1] == _project()["version"]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project
