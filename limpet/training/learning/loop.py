"""The loop that every method and every baseline is trained by, so that a comparison compares methods and not loops.

AdamW, a warm-up and a schedule, gradient clipping, the best epoch on validation data kept. accelerate carries
devices and bf16. Every step seeds torch by (seed, step), so a resumed run draws the numbers an undisturbed one would.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from limpet.errors import InterruptedRunError, TrainingError
from limpet.training.learning.optimization.optimizers import new_optimizer
from limpet.training.learning.optimization.schedules import learning_rate_factor
from limpet.training.learning.optimization.weight_decay import decayed_names
from limpet.training.learning.ranks.group import ALONE, RankLostError, Ranks
from limpet.training.learning.runs.checkpoint import Checkpoint, LoopState
from limpet.training.metrics.units import mean_ranks
from limpet.training.progress import Progress

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

__all__ = ["Fitted", "LoopSettings", "Objective", "Validation", "fit", "new_accelerator"]

_OF_TASK = "validation/"


@dataclass(frozen=True)
class Validation:
    """What validation data say of the model; `loss` decides between epochs that score the same.

    `score` is higher where the model is better. Scores by task are those of tasks without a common unit, the one that
    is learned first: the best epoch is then that of the best mean rank.
    """

    score: float | Mapping[str, float]
    loss: float


class Objective(Protocol):
    """What is minimised: which examples share a step, and their loss. What they are, the loop does not know."""

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """Return the examples of each step of an epoch; their number is the same in every epoch."""

    def losses(self, model: nn.Module, batch: Sequence[int]) -> Iterator[Tensor]:
        """Give the loss of some examples under the prepared model in parts: scalars that add up to it.

        A part is made when it is asked for, so that the graph of the one before is no longer needed.
        """


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop; `learning_rate` is the peak, `max_seconds` a budget.

    What `accumulate`, `warmup`, `schedule`, `patience`, `evaluate_every` and `optimizer` are, `TrainingSettings`
    says.

    `fused` lets the optimizer pass once over each weight, where the device has such a kernel.
    `max_tokens_per_microbatch` is how many tokens of a step are computed together at the most, null for all.
    `weight_decay` is of the weights that `limpet.training.learning.optimization.weight_decay` names. `ranks` are the
    processes that share each step.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    dtype: str
    accumulate: int = 1
    schedule: str = "linear"
    warmup: float = 0.1
    patience: int | None = None
    evaluate_every: int | None = None
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    max_seconds: float | None = None
    fused: bool = True
    optimizer: str = "adamw"
    max_tokens_per_microbatch: int | None = None
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class Fitted:
    """What training gave; the model holds the best epoch's tensors.

    `best_score` is the validation score in that epoch: of the task and of those learned along with it the mean, and
    where they have no common unit, of the task itself. `inputs` has the digests of the token ids that were learned
    on, by split. `processes` is how many learned it together.
    """

    best_score: float
    best_epoch: int
    history: tuple[dict[str, float], ...]
    steps: int
    examples: int
    seconds: float
    examples_per_second: float
    inputs: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1

    def after(self, seconds: float) -> Fitted:
        """Return the same with the seconds of what came before the first step and is a part of training."""
        total = self.seconds + seconds
        rate = self.examples_per_second * self.seconds / total if total else 0.0
        return replace(self, seconds=total, examples_per_second=rate)


def new_accelerator(dtype: str) -> Accelerator:
    """Make an accelerator that computes in `dtype`: `float32`, or `bfloat16` by autocast."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # accelerate keeps the first precision for the whole process unless told to forget it
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision="bf16" if dtype == "bfloat16" else "no")


def fit(
    model: nn.Module,
    objective: Objective,
    settings: LoopSettings,
    *,
    validate: Callable[[], Validation],
    checkpoint: Checkpoint,
    progress: Progress,
) -> Fitted:
    """Train the parameters of `model` that require gradients, and leave the best epoch's values in it.

    Args:
        model: The backbone with a method attached, and a head; or a head alone.
        objective: The training examples and their loss.
        settings: Of the loop.
        validate: Tells how good the model is on validation data.
        checkpoint: Where to write the state, and to resume from if it has one.
        progress: Receives every step.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM came; a checkpoint was written.
        RankLostError: Another process of the training has ended; a checkpoint was written.
        TrainingError: The loss is not finite.
    """
    ranks = settings.ranks
    accelerator = new_accelerator(settings.dtype)
    parameters = {name: p for name, p in sorted(model.named_parameters()) if p.requires_grad}
    decayed = decayed_names(model)
    groups = [
        {"params": [p for name, p in parameters.items() if name in decayed], "weight_decay": settings.weight_decay},
        {"params": [p for name, p in parameters.items() if name not in decayed], "weight_decay": 0.0},
    ]
    optimizer = new_optimizer(
        settings.optimizer,
        [group for group in groups if group["params"]],
        learning_rate=settings.learning_rate,
        fused=settings.fused and all(p.device.type in ("cpu", "cuda") for p in parameters.values()),
    )
    # the optimizer is prepared after loading, so that its state is restored by parameter
    state = checkpoint.load(parameters, optimizer)
    prepared, prepared_optimizer = accelerator.prepare(model, optimizer)
    ranks.begin(list(parameters.values()))
    learner = _Learner(accelerator, prepared, prepared_optimizer, parameters, ranks)
    batch_size = settings.accumulate * settings.batch_size
    total = settings.epochs * len(objective.batches(batch_size, settings.seed, 0))
    progress.start("train", total)
    kept = _keeping(lambda: checkpoint.save(state, parameters, optimizer))
    with _stop_signals() as stopped, kept, ranks.sharing_dropout(model):

        def stop_if_asked() -> None:
            state.seconds, stop = ranks.agree(state.seconds, stopped.is_set())
            if stop or checkpoint.due():
                checkpoint.save(state, parameters, optimizer)
            if stop:
                progress.finish()
                raise InterruptedRunError(f"Training was interrupted at step {state.step} of {total}.")

        while state.epoch < settings.epochs and not _is_over(state, settings):
            learner.prepared.train()
            started = time.perf_counter() - state.seconds
            batches = objective.batches(batch_size, settings.seed, state.epoch)
            for batch in batches[state.batch :]:
                _seed(_step_seed(settings.seed, state.step))
                factor = learning_rate_factor(state.step, total, settings.warmup, schedule=settings.schedule)
                learning_rate = settings.learning_rate * factor
                loss = learner.step(objective, batch, learning_rate, clip_norm=settings.clip_norm)
                _count(state, loss, len(batch), seconds=time.perf_counter() - started)
                progress.advance(state.step, f"loss {loss:.3f}, {state.examples / state.seconds:.0f} examples/s")
                if _is_due(state, settings) and state.batch < len(batches):
                    _evaluate(state, _validation(ranks, validate), parameters, at_step=True)
                    learner.prepared.train()
                    # what validation takes is no part of the time of training
                    started = time.perf_counter() - state.seconds
                stop_if_asked()
                if _is_over(state, settings):
                    break
            if not _is_due(state, settings) or state.batch == len(batches):
                _evaluate(state, _validation(ranks, validate), parameters)
            state.epoch, state.batch, state.loss_sum = state.epoch + 1, 0, 0.0
            stop_if_asked()
    progress.finish()
    learner.finish(state.best)
    return Fitted(
        best_score=float(state.best_score or 0.0),
        best_epoch=state.best_epoch,
        history=tuple(state.history),
        steps=state.step,
        examples=state.examples,
        seconds=state.seconds,
        examples_per_second=state.examples / state.seconds if state.seconds else 0.0,
        processes=ranks.world,
    )


@dataclass(frozen=True)
class _Learner:
    """The model and its optimizer in accelerate's hands."""

    accelerator: Accelerator
    prepared: nn.Module
    optimizer: AcceleratedOptimizer
    parameters: Mapping[str, Tensor]
    ranks: Ranks

    def step(self, objective: Objective, batch: Sequence[int], learning_rate: float, *, clip_norm: float) -> float:
        """One optimizer step on one batch; returns the loss."""
        loss = 0.0
        for part in objective.losses(self.prepared, batch):
            self.accelerator.backward(part)
            loss += float(part.detach())
        loss = self.ranks.sum_gradients(list(self.parameters.values()), loss)
        self.accelerator.clip_grad_norm_(list(self.parameters.values()), clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        # a fused step changes them unseen, and who has kept a cast of one has to see it
        torch.autograd.graph.increment_version(list(self.parameters.values()))
        self.optimizer.zero_grad()
        return loss

    def finish(self, best: Mapping[str, Tensor]) -> None:
        """Leave the best values in the model, no gradients, and its forward as it was before accelerate's."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(best[name])
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)
        self.optimizer.zero_grad(set_to_none=True)


def _validation(ranks: Ranks, validate: Callable[[], Validation]) -> Validation:
    return Validation(**ranks.from_leader(lambda: asdict(validate())))


@contextmanager
def _keeping(save: Callable[[], None]) -> Iterator[None]:
    """Keep what was learned where another process is lost: it was lost between two steps, or within one not taken."""
    try:
        yield
    except RankLostError:
        save()
        raise


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def _seed(value: int) -> None:
    # `torch.manual_seed` writes a traceback down for each kind of device that is not there
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(value)


def _is_over(state: LoopState, settings: LoopSettings) -> bool:
    """Tell whether the time is over, or patience: too many evaluations in a row gave nothing better."""
    if settings.max_seconds is not None and state.seconds >= settings.max_seconds:
        return True
    return settings.patience is not None and len(state.history) - 1 - _best_at(state) >= settings.patience


def _is_due(state: LoopState, settings: LoopSettings) -> bool:
    return settings.evaluate_every is not None and state.step % settings.evaluate_every == 0


def _count(state: LoopState, loss: float, examples: int, *, seconds: float) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"The loss became {loss} at step {state.step + 1}; nothing was registered.",
            "train again with a smaller --lr",
        )
    state.loss_sum += loss
    state.batch += 1
    state.step += 1
    state.examples += examples
    state.seconds = seconds


def _evaluate(state: LoopState, validation: Validation, parameters: dict[str, Any], *, at_step: bool = False) -> None:
    """Put what validation says into the history, and keep the parameters if it is the best so far."""
    scores = validation.score if isinstance(validation.score, Mapping) else {}
    # the first task is the one that is learned, the others are learned along
    score = next(iter(scores.values())) if isinstance(validation.score, Mapping) else validation.score
    each = {f"{_OF_TASK}{task}": value for task, value in scores.items()}
    loss = state.loss_sum / max(1, state.batch)
    # JSON has no word for what is not finite
    held_back = {"validation_loss": validation.loss} if math.isfinite(validation.loss) else {}
    when = {"epoch": state.epoch + 1, "step": state.step} if at_step else {"epoch": state.epoch + 1}
    state.history.append({**when, "loss": loss, "validation": score, **held_back, **each})
    if _is_best(state, score):
        state.best_score, state.best_epoch = score, state.epoch + 1
        state.best_evaluation = len(state.history) - 1
        state.best = {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}


def _best_at(state: LoopState) -> int:
    """Return where the best evaluation stands in the history."""
    return state.best_epoch - 1 if state.best_evaluation is None else state.best_evaluation


def _is_best(state: LoopState, score: float) -> bool:
    """Tell whether the last epoch is better than the one kept.

    A small validation split gives many epochs the same score: then it is the one with the smaller loss, and the
    earlier of two with the same. Over tasks without a common unit, it is by the mean ranks of these two among all
    epochs so far.
    """
    if state.best_score is None:
        return True
    epochs = [{key: one[key] for key in one if key.startswith(_OF_TASK)} for one in state.history]
    losses = [one.get("validation_loss", math.inf) for one in state.history]
    smaller = losses[-1] < losses[_best_at(state)]
    if not epochs[-1]:
        return score > state.best_score or (score == state.best_score and smaller)
    ranks = mean_ranks(epochs)
    now, best = ranks[-1], ranks[_best_at(state)]
    return now < best or (now == best and smaller)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Turn the first SIGINT or SIGTERM into an event; a second SIGINT interrupts at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
