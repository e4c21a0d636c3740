"""The commands of this capability: a neural surface of a case, its mesh, and the whole way for an object that is no torso."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...core.arguments import settings_given
from ...core.case import Case
from ...core.commands import Commands
from ...core.console import Console
from ...core.run import run
from ...core.stage import Capability, Stage, stage_named
from ..torso.stages import CAMERAS, FRAMES
from . import REFINEMENT
from .stages import EXTRACT, NEURAL

# From pictures of anything to its mesh.
OBJECT = Capability("object", (FRAMES, CAMERAS, *REFINEMENT.stages), commands="")


def add(commands: Commands) -> None:
    """Add the commands."""
    words = {
        NEURAL.name: "learn the surface of what the frames of a case show, as a neural signed distance",
        EXTRACT.name: "extract the mesh of the learned surface of a case, at any resolution",
    }
    for stage in REFINEMENT.stages:
        sub = commands.add(stage.name, words[stage.name], _run, REFINEMENT.stages)
        sub.add_argument("-o", "--output", type=Path, required=True, metavar="CASE", help="case folder with cameras")
        sub.set_defaults(goal=stage.name, capability=REFINEMENT)
    thing = commands.add("object", "pictures or video of anything in, its surface out", _run, OBJECT.stages)
    thing.add_argument("-o", "--output", type=Path, required=True, metavar="CASE", help="case folder")
    thing.set_defaults(goal=EXTRACT.name, capability=OBJECT)


def _run(options: argparse.Namespace, console: Console) -> None:
    capability, goal = options.capability, stage_named(options.goal, REFINEMENT.stages)
    if capability is REFINEMENT:
        Case(options.output)  # it must be there
        settings = settings_given(options, options.output, capability.stages)
    else:
        settings = options.settings_of(options)
    say_result(run(options.output, capability, settings, (goal,), console.event, console.token), goal, console)


def say_result(case: Case, goal: Stage[Any, Any], console: Console) -> None:
    """Say what a stage made."""
    result = case.result(goal)
    values: dict[str, Any] = {"case": str(case.folder), "stage": goal.name}
    lines = [f"{goal.title} is done; its files are in {case.path(goal)}"]
    if goal is EXTRACT:
        values |= result.numbers
        lines = [f"The surface is in {result.file}; scale: {result.numbers['scale']}."]
        lines += [f"Note: {warning}" for warning in result.numbers["warnings"]]
    elif goal is NEURAL:
        values["warnings"] = list(result.warnings)
        lines += [f"Note: {warning}" for warning in result.warnings]
    console.say("\n".join(lines), **values)
