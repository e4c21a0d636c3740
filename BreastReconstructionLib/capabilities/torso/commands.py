"""The commands of this capability: the whole way, each stage, and the demonstration."""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from ...core.arguments import add_quality
from ...core.case import Case
from ...core.commands import Commands
from ...core.console import Console
from ...core.errors import LandmarkError
from ...core.run import run
from ...core.settings import Settings, quality_values
from ...core.stage import Stage, stage_named
from ...landmarks.names import LANDMARK_NAMES
from ...landmarks.proposal import PROPOSED_FILE, PROPOSED_PICTURE
from . import TORSO
from .stages import GUIDANCE, LANDMARKS, PROPOSAL, REPORT, SCALE


def add(commands: Commands) -> None:
    """Add the commands."""
    whole = _add_run(commands, "reconstruct", "video and landmarks in, surface and report out", REPORT)
    words = "find the cameras, write proposed_landmarks.csv and a picture of it into the case, and stop"
    whole.add_argument("--propose-landmarks", action="store_true", help=words)
    for stage in TORSO.stages:
        if stage is not GUIDANCE:
            _add_run(commands, stage.name, f"run what '{stage.name}' needs, and that stage", stage)
    check = commands.add(
        "check", "whether a video will do, in 15 s, while the patient is still undressed", _check_video, TORSO.stages
    )
    check.add_argument("-o", "--output", type=Path, metavar="CASE", help="case folder to begin (default: nothing is kept)")
    demo = commands.add("demo", "reconstruct the bundled sample (a synthetic patient) and print the error", _demo)
    _add_output(demo)
    add_quality(demo)


def _add_run(commands: Commands, name: str, words: str, goal: Stage[Any, Any]) -> argparse.ArgumentParser:
    sub = commands.add(name, words, _run, TORSO.stages)
    _add_output(sub)
    sub.set_defaults(goal=goal.name, check=partial(_check, sub, goal))
    return sub


def _add_output(sub: argparse.ArgumentParser) -> None:
    words = "case folder; run again to go on where it stopped"
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="CASE", help=words)


def _check(parser: argparse.ArgumentParser, goal: Stage[Any, Any], options: argparse.Namespace) -> None:
    """End with exit code 2 if landmarks are missing, or a surface is asked for without a word about its scale."""
    if getattr(options, "propose_landmarks", False):
        return
    given = hasattr(options, "landmarks") or hasattr(options, "accept_proposed")
    if LANDMARKS in (*goal.before(), goal) and not given:
        parser.error("the following arguments are required: --landmarks (or --propose-landmarks, or --accept-proposed)")
    measured, approximate = hasattr(options, "marker") or hasattr(options, "distance"), hasattr(options, "approximate_scale")
    if SCALE in (*goal.before(), goal) and not measured and not approximate:
        parser.error("one of the arguments --distance, --marker, --approximate-scale is required")
    if measured and approximate:
        parser.error("argument --approximate-scale: not allowed with --distance or --marker, which measure it")


def _run(options: argparse.Namespace, console: Console) -> None:
    goal = PROPOSAL if getattr(options, "propose_landmarks", False) else stage_named(options.goal, TORSO.stages)
    settings = options.settings_of(options)
    if LANDMARKS in (*goal.before(), goal) and settings.of(LANDMARKS).landmarks is None:
        case = run(options.output, TORSO, settings, (PROPOSAL,), console.event, console.token)
        _refuse_unknown(case)
        settings = settings.with_values(TORSO.stages, {"landmarks": case.path(PROPOSAL) / PROPOSED_FILE})
    case = run(options.output, TORSO, settings, (goal,), console.event, console.token)
    say_result(case, goal, console)


def _check_video(options: argparse.Namespace, console: Console) -> None:
    settings = options.settings_of(options)
    if options.output:
        say_guidance(run(options.output, TORSO, settings, (GUIDANCE,), console.event, console.token), console)
        return
    with tempfile.TemporaryDirectory() as folder:
        say_guidance(run(Path(folder), TORSO, settings, (GUIDANCE,), console.event, console.token), console)


def say_guidance(case: Case, console: Console) -> None:
    """Say whether the video will do."""
    findings = case.result(GUIDANCE).findings
    bad = [finding for finding in findings if not finding.fine]
    lines = [f"{'ok ' if finding.fine else 'NOT'} {finding.words}" for finding in findings]
    lines.append("The video will do." if not bad else "Film again while the patient is here.")
    console.say("\n".join(lines), fine=not bad, findings=[finding.as_dict() for finding in findings])


def _refuse_unknown(case: Case) -> None:
    """Raise LandmarkError if some landmarks could not be proposed."""
    if unknown := case.result(PROPOSAL).unknown:
        raise LandmarkError(
            f"The frames do not show where the {' and the '.join(unknown)} {'is' if len(unknown) == 1 else 'are'}; place "
            f"{'it' if len(unknown) == 1 else 'them'} in the panel, or add rows to a copy of {PROPOSED_FILE} and give it by "
            "--landmarks."
        )


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
    if goal is GUIDANCE:
        say_guidance(case, console)
        return
    if goal is PROPOSAL:
        console.say("\n".join(_proposal_lines(case)), case=str(folder), stage=goal.name)
        return
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


def _proposal_lines(case: Case) -> list[str]:
    proposal = case.result(PROPOSAL)
    lines = []
    for name, confidence, frames in zip(LANDMARK_NAMES, proposal.confidence, proposal.frames, strict=True):
        words = "not proposed: place it" if name in proposal.unknown else f"in {frames} frames"
        words += ", look closely" if name in proposal.unsure else ""
        lines.append(f"{name:16s} confidence {confidence:.2f}, {words}")
    return [
        *lines,
        f"Look at {case.folder / PROPOSED_PICTURE}. If all is right, run the same command with --landmarks "
        f"{case.folder / PROPOSED_FILE} --accept-proposed and what is known in millimetres.",
    ]


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
