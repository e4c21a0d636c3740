"""Commands on a case: run it by its own settings, and say what it holds."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...capabilities import CAPABILITIES, STAGES, capability_of
from ...capabilities.torso.stages import REPORT
from ...core.case import Case
from ...core.commands import Commands
from ...core.console import Console
from ...core.errors import BreastReconstructionError, OptionError
from ...core.options import options_of
from ...core.run import StageState, run, states
from ...core.settings import read_settings
from ...core.stage import resolve, stage_named


def add(commands: Commands) -> None:
    """Add the commands."""
    words = "run a case by its own settings.json; what the panel starts"
    again = commands.add("run", words, _run)
    again.add_argument("case", type=Path, metavar="CASE", help="case folder that holds settings.json")
    goal = "stage that is wanted (default: report); may be given several times"
    again.add_argument("--until", action="append", metavar="STAGE", help=goal)
    inspect = commands.add("inspect", "say what a case folder holds", _inspect)
    inspect.add_argument("case", type=Path, metavar="CASE", help="case folder")
    remove = commands.add("remove-case", "overwrite and delete a case folder with all that is in it, for good", _remove)
    remove.add_argument("case", type=Path, metavar="CASE", help="case folder")
    remove.add_argument("--yes", action="store_true", help="do it; without this, only say what would be removed")


def _run(options: argparse.Namespace, console: Console) -> None:
    Case(options.case)  # one that is not there, damaged, or newer is refused here
    goals = tuple(stage_named(name, STAGES) for name in options.until or [REPORT.name])
    capability = capability_of(goals[0])
    if any(goal not in capability.stages for goal in goals):
        raise OptionError("The stages that are wanted belong to different capabilities; run one after the other.")
    settings = read_settings(options.case, STAGES)
    case = run(options.case, capability, settings, goals, console.event, console.token)
    resolve(capability.say)(case, goals[-1], console)


def _remove(options: argparse.Namespace, console: Console) -> None:
    from ...core.removal import contents_of, remove_case

    inputs = _inputs_elsewhere(options.case)
    found = contents_of(options.case)
    what = f"{len(found.files)} files ({found.size / 1e6:.0f} MB) of the case {options.case.name}"
    if not options.yes:
        raise OptionError(f"Nothing was removed; {what} would be, for good: add --yes.")
    remove_case(options.case, console.progress("remove-case"))
    lines = [f"{what} were overwritten and deleted.", "What this cannot reach:"]
    lines += [f"  the input {path.name}, which lies outside the case: delete it yourself" for path in inputs]
    lines += [f"  what has a second name elsewhere: {path.name}" for path in found.shared]
    lines += [f"  what a link led to: {path.name}" for path in found.links]
    lines += [
        "  copies on a solid state disk, whose controller keeps old blocks until it needs them: only an encrypted disk helps",
        "  snapshots and backups, folders that a cloud service mirrors, and the phone that filmed",
    ]
    console.say("\n".join(lines), files=len(found.files), bytes=found.size, inputs=[path.name for path in inputs])


def _inputs_elsewhere(folder: Path) -> list[Path]:
    """Files outside the case that its settings name; those that cannot be read name none."""
    try:
        settings = read_settings(folder, STAGES)
    except (BreastReconstructionError, OSError):
        return []
    values = (settings.value(stage, option) for stage in STAGES for option in options_of(stage.options) if option.kind is Path)
    inside = folder.absolute()
    return sorted({path for path in values if path is not None and path.exists() and not path.absolute().is_relative_to(inside)})


def _inspect(options: argparse.Namespace, console: Console) -> None:
    case = Case(options.case)
    known = _states(case)
    lines = [f"Case {options.case}"]
    for stage in STAGES:
        record = case.stages.get(stage.name)
        found = f"{record['finished']}  {record['seconds']:7.1f} s" if record else StageState.NOT_DONE.value
        stale = "  out of date" if known.get(stage.name) is StageState.OUT_OF_DATE else ""
        lines.append(f"  {stage.name:10s} {found}{stale}")
    if REPORT.name in case.stages:
        report = case.result(REPORT)
        numbers = report.numbers
        lines.append(f"  scale: {numbers['scale']['source']} (± {100 * numbers['scale']['relative_uncertainty']:.1f} %)")
        lines.append(f"  frames: {numbers['frames']['registered']} of {numbers['frames']['selected']} placed in space")
        lines += [f"  WARNING: {doubt}" for doubt in report.doubts]
        lines += [f"  note: {warning}" for warning in numbers["warnings"]]
    console.say("\n".join(lines), stages=case.stages, states={name: state.value for name, state in known.items()})


def _states(case: Case) -> dict[str, StageState]:
    """How the stages stand by the case's own settings; nothing if it has none, or the inputs are gone."""
    try:
        settings = read_settings(case.folder, STAGES)
        return {name: state for each in CAPABILITIES for name, state in states(case, each, settings).items()}
    except (BreastReconstructionError, OSError):
        return {}
