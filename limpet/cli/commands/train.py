"""`limpet train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from limpet.cli.commands._trained import mirroring_after, show_trained, showing_refused
from limpet.cli.invocation.command import Command
from limpet.cli.invocation.invocation import Invocation, pass_invocation
from limpet.cli.invocation.key_values import parse_settings, whole_number
from limpet.errors import UsageError
from limpet.loading import loading
from limpet.registry.settings import MonitorMode, check_monitor_mode
from limpet.training.learning.ranks.launched import Launched

if TYPE_CHECKING:
    from limpet.home import Home
    from limpet.training.learning.settings import TrainingSettings

__all__ = ["command"]


@click.command("train", cls=Command)
@click.argument("task")
@click.option("--method", metavar="M", help="How to learn; limpet methods lists them. [lora]")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A setting of the method; repeatable.")
@click.option("--epochs", type=int, metavar="E", help="Passes over the training examples. [3]")
@click.option(
    "--lr",
    "learning_rate",
    type=float,
    metavar="X",
    help="Peak learning rate. [the method's own]",
)
@click.option("--batch-size", type=int, metavar="B", help="Examples in a step. [16]")
@click.option("--weight-decay", type=float, metavar="X", help="Of matrices; norms, biases, factors: none. [0.01]")
@click.option("--optimizer", metavar="O", help="adamw, or adamw-8bit, whose states take a quarter. [adamw]")
@click.option("--accumulate", type=int, metavar="N", help="Batches in a step of the optimizer. [1]")
@click.option("--checkpointing", is_flag=True, default=None, help="Less memory: compute activations again.")
@click.option("--packing", is_flag=True, default=None, help="Short texts share rows, without seeing each other.")
@click.option("--schedule", metavar="S", help="Of the learning rate: linear, cosine or constant. [linear]")
@click.option("--warmup", type=float, metavar="X", help="A share of all steps, or from 1 on a number. [0.1]")
@click.option("--patience", type=int, metavar="N", help="End after so many evaluations without a better one.")
@click.option("--evaluate-every", type=int, metavar="N", help="Score the validation split every N steps, too.")
@click.option("--class-weights", metavar="balanced", help="Rare labels weigh more in the loss.")
@click.option("--seed", type=int, metavar="S", help="Seeds initial values, order and dropout. [0]")
@click.option("--max-length", type=int, metavar="L", help="Longest text in tokens. [the task's own]")
@click.option("--dtype", metavar="T", help="auto, bfloat16 or float32. [auto]")
@click.option("--disable", multiple=True, metavar="NAME", help="An optimization to leave out; repeatable.")
@click.option("--without", multiple=True, hidden=True)
@click.option("--max-seconds", type=float, metavar="S", help="End training after this long.")
@click.option("--from", "start_from", metavar="VERSION", help="Begin with the tensors of a version.")
@click.option(
    "--replay", metavar="N|all", help="How many rows that --from was learned on come again in each epoch. [all]"
)
@click.option("--processes", type=int, metavar="N", help="Learn in N processes on this machine. [1, or a launcher's]")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of an interrupted run.")
@click.option(
    "--monitor",
    metavar="MODE",
    help="The earlier tasks: evaluate them (full), audit them, or off. [the home's, full]",
)
@click.option("--no-monitor", is_flag=True, help="Do not evaluate the earlier tasks again: --monitor off.")
@click.option("--promote", metavar="ALIAS", help="Move this alias to the new version, if the gate lets it.")
@click.option(
    "--max-forgetting", type=float, metavar="X", help="The gate's limit on forgetting_max; exit code 6 above it."
)
@click.option("--estimate", "estimates", is_flag=True, help="Only tell what memory and time it will take.")
@pass_invocation
def command(
    invocation: Invocation,
    /,
    task: str,
    pairs: tuple[str, ...],
    *,
    start_from: str | None,
    resume: bool,
    monitor: str | None,
    no_monitor: bool,
    promote: str | None,
    max_forgetting: float | None,
    without: tuple[str, ...],
    processes: int | None,
    estimates: bool,
    **options: Any,
) -> None:
    """Learn a task, register the version and evaluate every earlier task again."""
    launched = Launched.from_environment()
    if launched is not None and launched.rank:
        _follow(invocation, launched)
        return
    if without:
        invocation.note("--without is called --disable now")
        options["disable"] += without
    if options["method"]:
        invocation.note_renamed(options["method"])
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if (replay := given.pop("replay", None)) is not None and not resume:
        _check_replay(task, start_from)
    if replay not in (None, "all"):
        given["replay"] = whole_number("--replay", replay, "a number of rows, or all")
    if pairs:
        given["method_settings"] = parse_settings(pairs)
    mode = _monitor_mode(monitor, no_monitor)
    home = invocation.open()
    # before the base is loaded: a name mistyped is answered at once
    home.task.show(task)
    if estimates:
        if resume or processes not in (None, 1):
            raise UsageError(
                "An estimate is of one process that learns from the beginning.", "leave out --resume and --processes"
            )
        _show_estimate(invocation, home, task, settings=_settings(given, resume))
        return
    with mirroring_after(home), showing_refused(invocation), invocation.progress() as progress:
        trained = home.train(
            task,
            _settings(given, resume),
            start_from=start_from,
            resume=resume,
            monitor=mode,
            promote=promote,
            max_forgetting=max_forgetting,
            mirror=False,
            processes=processes,
            progress=progress,
        )
        progress.finish()
        show_trained(invocation, trained)


def _show_estimate(invocation: Invocation, home: Home, task: str, *, settings: TrainingSettings | None) -> None:
    from limpet.cli.terminal import output

    with invocation.progress() as progress:
        found = home.estimate(task, settings, progress=progress)
    if invocation.json:
        output.emit(**output.to_json(found), fits=found.fits)
        return
    free, peak = output.size(found.available_memory_bytes), output.size(found.peak_memory_bytes)
    layers = " and ".join(map(str, found.measured_layers))
    output.table(
        ("phase", "peak memory", "seconds"),
        [(name, output.size(phase.bytes), output.digits(phase.seconds, 1)) for name, phase in found.phases.items()],
    )
    output.fields_table(
        [
            ("memory", f"{peak} at its peak; {free} are free: {'it fits' if found.fits else 'it does NOT fit'}"),
            ("time", f"about {output.digits(found.seconds, 0)} s, {found.steps} steps"),
            ("measured", f"on {layers} of the {found.layers} layers of {found.base}"),
        ]
    )


def _monitor_mode(asked: str | None, no_monitor: bool) -> MonitorMode | None:
    mode = None if asked is None else check_monitor_mode(asked)
    if no_monitor and mode not in (None, "off"):
        raise UsageError(f"--no-monitor switches the monitor off, and --monitor {mode} does not.", "leave one out")
    return "off" if no_monitor else mode


def _follow(invocation: Invocation, launched: Launched) -> None:
    """Take part in what another process leads, which has the same home: in silence."""
    launched.silence()
    home = invocation.open()
    with loading():
        from limpet.home.additions import follow

    follow(home.store, launched)


def _check_replay(task: str, start_from: str | None) -> None:
    """Refuse to replay rows where nothing was learned on them, also where `all` of them are asked for."""
    name = task.partition("@")[0]
    if start_from is None or start_from.partition("@")[0] != name:
        with loading():
            from limpet.training.learning.training_run import nothing_to_replay

        raise nothing_to_replay(name, start_from)


def _settings(given: dict[str, Any], resume: bool) -> TrainingSettings | None:
    """With `--resume` alone, the settings are those of the interrupted run."""
    if resume and not given:
        return None
    with loading():
        from limpet.training.learning.settings import TrainingSettings

    return TrainingSettings(**given)
