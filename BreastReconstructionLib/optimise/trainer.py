"""The trainer of networks: several processes, checkpoints, the best state, early stop, and records.

What is drawn depends on seed and step alone, so one process and several do the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import distributed, nn

from ..core.errors import ShapeModelError
from ..core.files import disk_errors, replacing
from ..core.progress import Progress

CHECKPOINT_EVERY, REPORT_EVERY, WARM_UP = 500, 100, 200
LARGEST_GRADIENT = 0.1
SMALLEST_IMPROVEMENT = 0.005


@dataclass(frozen=True)
class Process:
    """This process among those of `torchrun`; alone without it."""

    rank: int
    count: int
    device: str

    @classmethod
    def started(cls) -> Process:
        """Join the others by gloo, or nccl where each process has its graphics card."""
        rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
        if count > 1:
            distributed.init_process_group("gloo" if device == "cpu" else "nccl")
        return cls(rank, count, device)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over all processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def shared(self, evaluate: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> np.ndarray:
        """Return the (N,) values at (N, 3) points, of which each process evaluates its share."""
        if self.count == 1:
            return evaluate(points)
        values = np.zeros(len(points), np.float32)
        values[self.rank :: self.count] = evaluate(points[self.rank :: self.count])
        return self.sum(torch.from_numpy(values).to(self.device)).cpu().numpy()

    def leave(self) -> None:
        """Leave the other processes."""
        if self.count > 1:
            distributed.destroy_process_group()

    def of_first(self, compute: Callable[[], float]) -> float:
        """Return what the first process computes, to all, so that they never decide differently."""
        if self.count == 1:
            return compute()
        value = torch.tensor([compute() if self.rank == 0 else 0.0], dtype=torch.float64, device=self.device)
        distributed.broadcast(value, 0)
        return float(value)


@dataclass(frozen=True)
class Schedule:
    """How long and in what portions.

    Attributes:
        steps: optimisation steps at most.
        batch: subjects a step, over all processes.
        validate_every: steps between validations.
        patience: training ends after so many validations without a better one.
    """

    steps: int
    batch: int
    validate_every: int
    patience: int


class Judged(Protocol):
    """A state of what is trained."""

    def error(self) -> float:
        """Its validation error, in the trainee's unit."""

    def picture(self) -> np.ndarray | None:
        """(H, W, 3) uint8 picture of it, if there is one."""


class Trainee(Protocol):
    """What is trained."""

    @property
    def module(self) -> nn.Module:
        """Its forward takes this process's part of a batch and returns the (K,) sums of its terms; the first is the loss."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of what forward returns."""

    @property
    def unit(self) -> str:
        """Of the validation error."""

    @property
    def decisive(self) -> dict[str, Any]:
        """Plain settings that must be the same to go on from a checkpoint."""

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser."""

    def clipped(self) -> Iterable[nn.Parameter]:
        """Parameters whose common gradient is cut off at LARGEST_GRADIENT."""

    def batch(self, step: int, process: Process) -> tuple[Sequence[str], Any]:
        """Names of the subjects of a step's batch, and this process's part of it."""

    def judged(self) -> Judged:
        """The present state, ready to be judged."""


def at_one_rate(network: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
    """Return the one parameter group of a network that learns at one rate, with AdamW's usual weight decay."""
    return [{"params": list(network.parameters()), "lr": learning_rate, "weight_decay": 1e-2}]


def train(trainee: Trainee, schedule: Schedule, process: Process, work: Path, progress: Progress) -> float:
    """Train; go on from `work/checkpoint.pt` if it exists; leave the module in the state of the best validation.

    Args:
        trainee: see Trainee; its module lies on the process's device.
        schedule: how long.
        process: this one among several.
        work: folder of the checkpoint, written every 500 steps, and of TensorBoard's records.
        progress: reported every 100 steps.

    Returns:
        the best validation error.

    Raises:
        ShapeModelError: a batch that the processes cannot share, a checkpoint of another training, or a loss that is no longer a
            number.
        CaseError: the disk is full; the last checkpoint stays.
    """
    if schedule.batch % process.count:
        raise ShapeModelError(f"A step's batch ({schedule.batch}) must be a multiple of the {process.count} processes.")
    optimisation, checkpoint = _Optimisation.of(trainee, schedule, process), work / "checkpoint.pt"
    first, best = _resume(checkpoint, optimisation, process) if checkpoint.exists() else (0, _Best(math.inf, 0, {}))
    board = _Board(work, trainee.unit) if process.rank == 0 else None
    for step in range(first, schedule.steps):
        if best.stale >= schedule.patience:
            break
        names, parts = trainee.batch(step, process)
        record = optimisation.step(parts, process)
        if record is None:
            raise ShapeModelError(
                f"Training stopped at step {step}: the loss is not a number in the batch of {', '.join(names)}; the last good "
                f"state is in {checkpoint.name}."
            )
        done, last = step + 1, step + 1 == schedule.steps
        if done % schedule.validate_every == 0 or last:
            judged = trainee.judged()
            error = process.of_first(judged.error)
            best = best.after(error, trainee.module)
            if board is not None:
                board.validation(done, error, judged)
        if board is not None and (done % REPORT_EVERY == 0 or last):
            values = dict(zip(trainee.terms, (float(value) for value in record), strict=True))
            board.scalars(done, values)
            progress(done / schedule.steps, _words(done, values, best.error, trainee.unit))
        if board is not None and (done % CHECKPOINT_EVERY == 0 or last):
            _save_checkpoint(checkpoint, done, optimisation, best)
    trainee.module.load_state_dict(best.state)
    if board is not None:
        board.close()
    return best.error


def _words(step: int, values: dict[str, float], error: float, unit: str) -> str:
    told = ", ".join(f"{name} {value:.5f}" for name, value in values.items())
    return f"step {step}, {told}" + (f", validation {error:.2f} {unit}" if math.isfinite(error) else "")


@dataclass(frozen=True)
class _Optimisation:
    """What is trained, the same shared among processes, and what changes it."""

    trainee: Trainee
    shared: nn.Module
    optimizer: torch.optim.Optimizer
    rate: torch.optim.lr_scheduler.LRScheduler
    batch: int

    @classmethod
    def of(cls, trainee: Trainee, schedule: Schedule, process: Process) -> _Optimisation:
        optimizer = torch.optim.AdamW(trainee.groups())
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, schedule.steps))
        module = trainee.module
        shared = nn.parallel.DistributedDataParallel(module) if process.count > 1 else module
        return cls(trainee, shared, optimizer, rate, schedule.batch)

    def step(self, parts: Any, process: Process) -> torch.Tensor | None:
        """Take a step and return the batch's means of the terms; None, and no step, if one is not a number."""
        share = process.count / self.batch  # processes' gradients are averaged
        sums = self.shared(parts) * share
        record = process.sum(sums.detach() / process.count)
        self.optimizer.zero_grad()
        sums[0].backward()
        clipped = list(self.trainee.clipped())
        norm = nn.utils.clip_grad_norm_(clipped, LARGEST_GRADIENT)
        known = {id(parameter) for parameter in clipped}
        others = [p.grad.sum() for p in self.trainee.module.parameters() if id(p) not in known and p.grad is not None]
        if not torch.isfinite(torch.stack([*record, norm, *others])).all():
            return None
        self.optimizer.step()
        self.rate.step()
        return record


def _rate(step: int, steps: int) -> float:
    """Warm-up, over a tenth of short trainings, then a cosine that falls to a hundredth."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))
    return min(1.0, (step + 1) / max(min(WARM_UP, steps // 10), 1)) * (0.01 + 0.99 * cosine)


@dataclass(frozen=True)
class _Best:
    """The best validation so far: its error, how many came since, and the state."""

    error: float
    stale: int
    state: dict

    def after(self, error: float, module: nn.Module) -> _Best:
        """Return what is the best after another validation; one better by less than `SMALLEST_IMPROVEMENT` counts as stale."""
        stale = 0 if error < self.error * (1 - SMALLEST_IMPROVEMENT) else self.stale + 1
        if self.state and not error < self.error:
            return _Best(self.error, stale, self.state)
        return _Best(error, stale, {key: value.detach().cpu().clone() for key, value in module.state_dict().items()})


def _save_checkpoint(path: Path, step: int, optimisation: _Optimisation, best: _Best) -> None:
    state = {
        "step": step,
        "settings": optimisation.trainee.decisive,
        "losses": optimisation.trainee.module.state_dict(),
        "optimizer": optimisation.optimizer.state_dict(),
        "schedule": optimisation.rate.state_dict(),
        "best": {"error": best.error, "stale": best.stale, "state": best.state},
    }
    with disk_errors(path.parent), replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # torch's zip writer hides the system's error
            raise OSError(28, "torch could not write") from error


def _resume(path: Path, optimisation: _Optimisation, process: Process) -> tuple[int, _Best]:
    state = torch.load(path, weights_only=True, map_location=process.device)
    wanted, module = optimisation.trainee.decisive, optimisation.trainee.module
    if changed := [key for key in wanted if state["settings"].get(key) != wanted[key]]:
        raise ShapeModelError(
            f"The checkpoint in {path.parent.name} was made with another {changed[0]}; take another work folder, or delete it."
        )
    if any(state["losses"][name].shape != value.shape for name, value in module.state_dict().items()):
        raise ShapeModelError(f"The checkpoint in {path.parent.name} was made with other subjects; take another work folder.")
    module.load_state_dict(state["losses"])
    optimisation.optimizer.load_state_dict(state["optimizer"])
    optimisation.rate.load_state_dict(state["schedule"])
    return state["step"], _Best(*state["best"].values())  # by position: older checkpoints call the error otherwise


class _Board:
    """TensorBoard's records: scalars and pictures; none where the package is not installed."""

    def __init__(self, work: Path, unit: str):
        self._writer: Any = None
        self._tag = f"validation_{unit.replace(' ', '_')}"
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(work / "tensorboard"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def validation(self, step: int, error: float, judged: Judged) -> None:
        if self._writer is None:
            return
        self._writer.add_scalar(self._tag, error, step)
        if (picture := judged.picture()) is not None:
            self._writer.add_image("mean shape", picture, step, dataformats="HWC")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
