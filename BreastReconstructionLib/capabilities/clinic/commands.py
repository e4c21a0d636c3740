"""The commands of this capability: each stage, on a case whose surface is reconstructed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...core.arguments import settings_given
from ...core.case import Case
from ...core.commands import Commands
from ...core.console import Console
from ...core.run import run
from ...core.stage import Stage, stage_named
from . import CLINIC
from .results import DECIDED_BY
from .stages import COMPARE, MEASURE, REGISTER, SCAN_WALL, SKIN, SUMMARY


def add(commands: Commands) -> None:
    """Add the commands."""
    words = {
        SKIN.name: "find the skin of the chest in a CT or MRI volume",
        REGISTER.name: "bring the surface of a case to the skin of a CT or MRI volume",
        MEASURE.name: "measure the surface of a case: distances, folds, volumes, symmetry",
        SCAN_WALL.name: "volumes of the breasts to a chest wall that was drawn in the registered volume",
        COMPARE.name: "compare the surface of a case with that of an earlier visit",
        SUMMARY.name: "write the measurements of a case as a PDF",
    }
    for stage in CLINIC.stages:
        sub = commands.add(stage.name, words[stage.name], _run, CLINIC.stages)
        sub.add_argument("-o", "--output", type=Path, required=True, metavar="CASE", help="case folder with a surface")
        sub.set_defaults(goal=stage.name)
    _add_visits(commands)


def _add_visits(commands: Commands) -> None:
    visits = commands.add("visits", "the measurements of several visits of one patient side by side, as CSV", _visits)
    visits.add_argument("cases", type=Path, nargs="+", metavar="CASE", help="case folders, in the order of their dates")
    visits.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="CSV to write")


def _visits(options: argparse.Namespace, console: Console) -> None:
    from .visits import series_of

    series = series_of(options.cases)
    series.write(options.output)
    console.say(f"{len(series.rows)} numbers of {len(series.visits)} visits are in {options.output}.", file=str(options.output))


def _run(options: argparse.Namespace, console: Console) -> None:
    goal = stage_named(options.goal, CLINIC.stages)
    if goal is not SKIN:
        Case(options.output)  # it must be there
    settings = settings_given(options, options.output, CLINIC.stages)
    case = run(options.output, CLINIC, settings, (goal,), console.event, console.token)
    say_result(case, goal, console)


def say_result(case: Case, goal: Stage[Any, Any], console: Console) -> None:
    """Say what a stage made."""
    result = case.result(goal)
    lines = [f"{goal.title} is done; its files are in {case.path(goal)}"]
    values: dict = {"case": str(case.folder), "stage": goal.name}
    if goal is REGISTER:
        values |= {"numbers": result.numbers, "doubts": result.doubts, "warnings": result.warnings}
        lines += [f"WARNING: {doubt}" for doubt in result.doubts]
        where = DECIDED_BY[result.numbers["decided_by"]].capitalize()
        lines.append(
            f"{where} lies {result.numbers['median_mm']:.2f} mm from the volume's skin (median; 90 % within "
            f"{result.numbers['p90_mm']:.2f} mm)."
        )
        misses = result.numbers["landmarks_mm"]
        lines += [f"The {name} placed on the volume lies {miss:.1f} mm from the surface's." for name, miss in misses.items()]
        lines += [f"Note: {warning}" for warning in result.warnings]
    elif goal in (MEASURE, COMPARE, SCAN_WALL):
        notes = [] if goal is SCAN_WALL else result.warnings
        values |= {"rows": [row.__dict__ for row in result.rows], "warnings": notes}
        lines += [row.words() for row in result.rows]
        lines += [f"Note: {warning}" for warning in notes]
    elif goal is SKIN:
        values |= result.numbers
        lines += [f"Note: {warning}" for warning in result.numbers["warnings"]]
    console.say("\n".join(lines), **values)
