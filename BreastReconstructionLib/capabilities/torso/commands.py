"""The commands of this capability: the whole way, each stage, and the demonstration."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from ...core.arguments import add_quality
from ...core.case import Case
from ...core.commands import Commands
from ...core.console import Console
from ...core.run import run
from ...core.settings import Settings, quality_values
from ...core.stage import Stage, stage_named
from . import TORSO
from .stages import LANDMARKS, REPORT, SCALE


def add(commands: Commands) -> None:
    """Add the commands."""
    _add_run(commands, "reconstruct", "video and landmarks in, surface and report out", REPORT)
    for stage in TORSO.stages:
        _add_run(commands, stage.name, f"run what '{stage.name}' needs, and that stage", stage)
    demo = commands.add("demo", "reconstruct the bundled sample (a synthetic patient) and print the error", _demo)
    _add_output(demo)
    add_quality(demo)


def _add_run(commands: Commands, name: str, words: str, goal: Stage[Any, Any]) -> None:
    sub = commands.add(name, words, _run, TORSO.stages)
    _add_output(sub)
    sub.set_defaults(goal=goal.name, check=partial(_check, sub, goal))


def _add_output(sub: argparse.ArgumentParser) -> None:
    words = "case folder; run again to go on where it stopped"
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="CASE", help=words)


def _check(parser: argparse.ArgumentParser, goal: Stage[Any, Any], options: argparse.Namespace) -> None:
    """End with exit code 2 if landmarks are missing, or a surface is asked for without a word about its scale."""
    if LANDMARKS in (*goal.before(), goal) and not hasattr(options, "landmarks"):
        parser.error("the following arguments are required: --landmarks")
    measured, approximate = hasattr(options, "marker") or hasattr(options, "distance"), hasattr(options, "approximate_scale")
    if SCALE in (*goal.before(), goal) and not measured and not approximate:
        parser.error("one of the arguments --distance, --marker, --approximate-scale is required")
    if measured and approximate:
        parser.error("argument --approximate-scale: not allowed with --distance or --marker, which measure it")


def _run(options: argparse.Namespace, console: Console) -> None:
    goal = stage_named(options.goal, TORSO.stages)
    case = run(options.output, TORSO, options.settings_of(options), (goal,), console.event, console.token)
    say_result(case, goal, console)


def _demo(options: argparse.Namespace, console: Console) -> None:
    settings = demo_settings(options.quality)
    say_result(run(options.output, TORSO, settings, (REPORT,), console.event, console.token), REPORT, console)


def demo_settings(quality: str = "normal") -> Settings:
    """Return the settings that reconstruct the bundled sample and measure the error."""
    from ...core.resources import resource_path

    folder = resource_path("SampleData", "phantom")
    values = {
        "video": folder / "video.mp4",
        "landmarks": folder / "picks.csv",
        "marker": [json.loads((folder / "truth.json").read_text())["marker"]],
        "truth": folder,
    }
    return Settings().with_values(TORSO.stages, {**quality_values(TORSO.stages, quality), **values})


def say_result(case: Case, goal: Stage[Any, Any], console: Console) -> None:
    """Say where the files are and, of a report, what it says."""
    folder = case.folder
    if goal is not REPORT:
        console.say(f"{goal.name} is done; its files are in {case.path(goal)}", case=str(folder), stage=goal.name)
        return
    report = case.result(REPORT)
    scale, warnings = report.numbers["scale"], report.numbers["warnings"]
    lines = [f"WARNING: {doubt}" for doubt in report.doubts]
    lines += [
        f"The surface is in {folder / 'surface.ply'}, the sheet to check in {folder / 'report.png'}.",
        f"Scale: {scale['source']}; uncertain by {100 * scale['relative_uncertainty']:.1f} %.",
    ]
    lines += [f"Note: {warning}" for warning in warnings]
    values: dict[str, Any] = {"case": str(folder), "doubts": report.doubts, "warnings": warnings}
    if report.accuracy is not None:
        values["accuracy"] = report.accuracy
        lines += _accuracy_lines(report.accuracy)
    console.say("\n".join(lines), **values)


def _accuracy_lines(accuracy: dict) -> list[str]:
    lines = []
    for key, words in (("as_delivered", "as delivered"), ("after_similarity", "after similarity")):
        v = accuracy[key]
        lines.append(
            f"Error against the phantom's truth, {words}: mean {v['mean_mm']:.2f} mm, median {v['median_mm']:.2f}, "
            f"RMS {v['rms_mm']:.2f}, 95 % within {v['p95_mm']:.2f}."
        )
    name, worst = max(accuracy["landmarks_mm"].items(), key=lambda item: item[1])
    return [*lines, f"Landmarks: largest error {worst:.1f} mm ({name})."]
