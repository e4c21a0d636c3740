"""Running stages: what is up to date stays, what is not is done, in the order of the graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from .case import Case
from .errors import BreastReconstructionError, Cancelled
from .files import disk_errors
from .options import options_of
from .progress import CancellationToken, Progress
from .settings import Settings, write_settings
from .stage import Capability, O, R, Stage, dependents, resolve
from .threads import give_back_memory


class StageState(Enum):
    """How a stage of a case stands."""

    NOT_DONE = "not done"
    OUT_OF_DATE = "out of date"
    DONE = "done"


class Outcome(Enum):
    """What an event says of its stage."""

    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class StageEvent:
    """One progress event.

    Attributes:
        stage: name.
        fraction: of the stage, 0 to 1.
        overall: of the whole run, 0 to 1.
        words: a few, for people.
        outcome: after DONE and SKIPPED the stage's files are there.
    """

    stage: str
    fraction: float
    overall: float
    words: str
    outcome: Outcome = Outcome.RUNNING

    @property
    def finished(self) -> bool:
        """True if the stage's files are there."""
        return self.outcome in (Outcome.DONE, Outcome.SKIPPED)


class Inputs:
    """What the work of a stage may use: the results and options of the stages that it needs, and its sources."""

    def __init__(self, job: Job, stage: Stage[Any, Any]):
        self._job, self._stage = job, stage

    @property
    def sources(self) -> Mapping[str, Any]:
        """What the stage's `sources` function said for its key."""
        return self._job.sources(self._stage)

    def result(self, stage: Stage[Any, R]) -> R:
        """Return the result of a stage."""
        self._check(stage)
        return self._job.result(stage)

    def welcome(self, stage: Stage[Any, R]) -> R | None:
        """Return the result of a stage that this one welcomes, None if it is not up to date."""
        if stage not in self._stage.welcomes:
            raise ValueError(f"the stage {self._stage.name} does not say that it welcomes {stage.name}")
        return self._job.result(stage) if self._job.is_current(stage) else None

    def options(self, stage: Stage[O, Any]) -> O:
        """Return the options of a stage."""
        self._check(stage)
        return self._job.settings.of(stage)

    def folder(self, stage: Stage[Any, Any]) -> Path:
        """Return the folder of a stage's files."""
        self._check(stage)
        return self._job.case.path(stage)

    def work_folder(self) -> Path:
        """Return a folder that survives cancelling and killing, for checkpoints; see Case.work_folder."""
        return self._job.case.work_folder(self._stage, self._job.key(self._stage))

    def _check(self, stage: Stage[Any, Any]) -> None:
        if stage is not self._stage and stage not in self._stage.before():
            raise ValueError(f"the stage {self._stage.name} does not say that it needs {stage.name}")


class Job:
    """The stages of a capability on one case, with settings.

    Args:
        case: the case.
        capability: whose stages.
        settings: the options of the stages.
        report: called with progress events.
        token: asks to stop.
    """

    def __init__(
        self,
        case: Case,
        capability: Capability,
        settings: Settings,
        report: Callable[[StageEvent], None] = lambda event: None,
        token: CancellationToken | None = None,
    ):
        self.case, self.settings = case, settings
        self._stages, self._report = capability.stages, report
        self._token = CancellationToken() if token is None else token
        self._plan: tuple[Stage[Any, Any], ...] = capability.stages
        self._sources: dict[str, Mapping[str, Any]] = {}
        self._results: dict[str, Any] = {}
        self._keys: dict[str, str] = {}
        if case.stages and case.format == 1 and capability.migrate:
            case.migrated(resolve(capability.migrate)(case.stages))

    # Keys -----------------------------------------------------------------------------------------------------------

    def sources(self, stage: Stage[Any, Any]) -> Mapping[str, Any]:
        """Return what a stage takes from outside the case."""
        if stage.name not in self._sources:
            self._sources[stage.name] = resolve(stage.sources)(self.settings, self.case) if stage.sources else {}
        return self._sources[stage.name]

    def values(self, stage: Stage[Any, Any]) -> dict[str, Any]:
        """Return what the key of a stage is made of besides earlier keys: its sources, and options that are not the default.

        An option that is added later leaves old keys as they are, as long as it is not used.
        """
        counted = ((option, self.settings.value(stage, option)) for option in options_of(stage.options) if option.in_key)
        changed = {option.name: value for option, value in counted if value != option.default}
        return {**changed, **self.sources(stage)}

    def key(self, stage: Stage[Any, Any]) -> str:
        """Return the hash of everything that decides a stage's result.

        That of another capability's stage is what the case records: it is not brought up to date here.

        Raises:
            CaseError: a stage of another capability is needed, and was never done.
        """
        if stage not in self._stages:
            return self.case.recorded_key(stage)
        if stage.name not in self._keys:
            used = (*stage.needs, *(other for other in stage.welcomes if self.is_current(other)))
            self._keys[stage.name] = key_of(stage, self.values(stage), {other.name: self.key(other) for other in used})
        return self._keys[stage.name]

    def is_current(self, stage: Stage[Any, Any]) -> bool:
        """True if a stage is done, and nothing that decides its result has changed since."""
        return self.case.has(stage) and self.case.is_current(stage, self.key(stage))

    def state(self, stage: Stage[Any, Any]) -> StageState:
        """Say how a stage stands, without running anything.

        Raises:
            BreastReconstructionError: an input that the settings name cannot be read.
        """
        foreign = (need for need in stage.before() if need not in self._stages)
        if stage.name not in self.case.stages or not all(self.case.has(need) for need in foreign):
            return StageState.NOT_DONE
        return StageState.DONE if self.case.is_current(stage, self.key(stage)) else StageState.OUT_OF_DATE

    # Running --------------------------------------------------------------------------------------------------------

    def run(self, goals: Sequence[Stage[Any, Any]]) -> None:
        """Bring stages up to date, with all that they need.

        Raises:
            BreastReconstructionError: its children say what is wrong and what to do.
        """
        self._plan = plan(self._stages, goals)
        for stage in self._plan:
            self._ensure(stage)

    def result(self, stage: Stage[Any, R]) -> R:
        """Return the result of a stage that is done; it is read once."""
        if stage.name not in self._results:
            self._results[stage.name] = self.case.result(stage)
        return self._results[stage.name]

    def _ensure(self, stage: Stage[Any, Any]) -> None:
        key = self.key(stage)
        if self.case.is_current(stage, key):
            self._tell(stage, 1.0, "unchanged, skipped", Outcome.SKIPPED)
            return
        progress = Progress(lambda fraction, words: self._tell(stage, fraction, words), self._token)

        def work(folder: Path) -> None:
            progress(0.0, "starts")
            resolve(stage.work)(self.settings.of(stage), Inputs(self, stage), folder, progress)

        try:
            self.case.run_stage(stage, key, self.values(stage), work, dependents(stage, self._stages))
        except Cancelled:
            self._tell(stage, 0.0, "cancelled", Outcome.CANCELLED)
            raise
        except BreastReconstructionError:
            self._tell(stage, 0.0, "failed", Outcome.FAILED)
            raise
        finally:
            give_back_memory()
        for other in (stage, *dependents(stage, self._stages)):
            self._results.pop(other.name, None)
        self._tell(stage, 1.0, "done", Outcome.DONE)

    def _tell(self, stage: Stage[Any, Any], fraction: float, words: str, outcome: Outcome = Outcome.RUNNING) -> None:
        whole = sum(other.share for other in self._plan)
        before = sum(other.share for other in self._plan[: self._plan.index(stage)])
        self._report(StageEvent(stage.name, fraction, (before + fraction * stage.share) / whole, words, outcome))


def plan(stages: Sequence[Stage[Any, Any]], goals: Sequence[Stage[Any, Any]]) -> tuple[Stage[Any, Any], ...]:
    """Return those of the stages that are wanted or needed for what is wanted, in their order."""
    needed = {stage.name for goal in goals for stage in (*goal.before(), goal)}
    return tuple(stage for stage in stages if stage.name in needed)


def key_of(stage: Stage[Any, Any], values: Mapping[str, Any], needs: Mapping[str, str]) -> str:
    """Return the key of a stage's result.

    Args:
        stage: which.
        values: what it depends on besides earlier stages.
        needs: keys of the stages that it needs, by name.
    """
    text = json.dumps([stage.name, stage.revision, values, needs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def run(
    folder: Path,
    capability: Capability,
    settings: Settings,
    goals: Sequence[Stage[Any, Any]],
    report: Callable[[StageEvent], None] = lambda event: None,
    token: CancellationToken | None = None,
) -> Case:
    """Bring stages of a case up to date; what nothing changed stays. The settings are kept with the case.

    Args:
        folder: case folder; made if it is missing.
        capability: whose stages.
        settings: the options of the stages.
        goals: the stages that are wanted.
        report: called with progress events.
        token: asks to stop.

    Returns:
        the case.

    Raises:
        BreastReconstructionError: its children say what is wrong and what to do.
    """
    for stage in plan(capability.stages, goals):
        if stage.check:
            resolve(stage.check)(settings)
    case = Case(folder, create=True)
    with case.lock(), disk_errors(case.folder):
        write_settings(case.folder, capability.stages, settings)
        Job(case, capability, settings, report, token).run(goals)
    return case


def states(case: Case, capability: Capability, settings: Settings) -> dict[str, StageState]:
    """Say how each stage of a case stands, by name, without running anything.

    Raises:
        BreastReconstructionError: an input that the settings name cannot be read.
    """
    job = Job(case, capability, settings)
    return {stage.name: job.state(stage) for stage in capability.stages}
