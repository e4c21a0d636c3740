"""The commands of this capability: from bones to a network, and from a radiograph to a bone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...core.case import Case
from ...core.commands import Commands, whole_number
from ...core.console import Console
from ...core.run import run
from ...core.stage import Stage
from . import XRAY
from .stages import XRAY as XRAY_STAGE


def add(commands: Commands) -> None:
    """Add the commands."""
    xray = commands.group("xray", "bone from a radiograph (research use)")
    train = xray.add("train", "train a network on bones, in radiographs that are drawn while it learns; resumes", _train)
    train.add_argument("folder", type=Path, metavar="FOLDER", help="bones as closed meshes or segmentations")
    train.add_argument("--shape-model", type=Path, required=True, metavar="FILE", help="of this bone, by 'organ train'")
    train.add_argument("--name", required=True, help="of the network")
    train.add_argument("--steps", type=whole_number(1, 1_000_000), default=3000, metavar="N", help="at most (default 3000)")
    train.add_argument("--population", default="not stated", metavar="WORDS", help="whose bones these are, for the card")
    train.add_argument("--licence", default="not stated", metavar="WORDS", help="of the network, for the card")
    train.add_argument("--seed", type=int, default=0, help="of the optimisation and of the pictures")
    train.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="checkpoint")
    train.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the network")
    make = xray.add("reconstruct", "the bone that a radiograph shows, with a template on it", _reconstruct, XRAY.stages)
    make.add_argument("-o", "--output", type=Path, required=True, metavar="CASE", help="case folder")
    evaluate = xray.add("evaluate", "how well bones come out of radiographs of phantoms, beside the mean shape", _evaluate)
    evaluate.add_argument("--kind", default="femur", metavar="BONE", help="of 'phantom bones' (default femur)")
    evaluate.add_argument("--xray-model", type=Path, metavar="FILE", help="network (default: the bundled synthetic femur)")
    evaluate.add_argument("--seed", type=int, default=7000, help="of the first bone (default 7000)")
    evaluate.add_argument("--count", type=whole_number(1, 1000), default=20, metavar="N", help="bones (default 20)")
    evaluate.add_argument("--two-views", action="store_true", help="AP and lateral")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the table here")


def _train(options: argparse.Namespace, console: Console) -> None:
    import torch

    from ...radiograph.training import RadiographSettings, train_radiographs
    from ...shape_model.model_file import load_model, save_model

    settings = RadiographSettings(
        name=options.name,
        population=options.population,
        licence=options.licence,
        steps=options.steps,
        seed=options.seed,
    )
    torch.set_flush_denormal(True)  # of this whole process, which does nothing but train; see cli/commands/train.py
    shape = load_model(options.shape_model)
    path = train_radiographs(options.folder, shape, settings, options.work, options.output, console.progress("train"))
    if path is not None:
        save_model(options.output, shape)  # they are used together
        iou = json.loads(path.with_suffix(".json").read_text())["metrics"]["occupancy_iou"]
        words = f"The network is in {path}; of bones that it never saw, {100 * iou:.0f} % of the volume is common (its own view)."
        console.say(words, model=str(path), occupancy_iou=iou)


def _reconstruct(options: argparse.Namespace, console: Console) -> None:
    settings = options.settings_of(options)
    say_result(run(options.output, XRAY, settings, (XRAY_STAGE,), console.event, console.token), XRAY_STAGE, console)


def say_result(case: Case, goal: Stage[Any, Any], console: Console) -> None:
    """Say what the stage made."""
    result = case.result(XRAY_STAGE)
    numbers = result.numbers
    lines = [f"{numbers['side'].capitalize()} {numbers['bone']}, {numbers['length_mm']:.0f} mm long. Research use only."]
    if numbers["uncertainty_mm"] is not None:
        lines.append(
            f"Uncertainty of its surface {numbers['uncertainty_mm']:.1f} mm, along the beam "
            f"{numbers['depth_uncertainty_mm']:.1f} mm, at the distances given ({numbers['model']}: {numbers['population']})."
        )
    lines += [f"The files are in {case.folder}.", *(f"Note: {warning}" for warning in result.warnings)]
    console.say("\n".join(lines), case=str(case.folder), **numbers)


def _evaluate(options: argparse.Namespace, console: Console) -> None:
    from ...radiograph.evaluation import evaluate_radiographs
    from ...radiograph.model_file import load_radiograph_model
    from ...shape_model.model_file import load_model
    from .sources import network_path, shape_model_path

    path = network_path(options.xray_model)
    model, shape = load_radiograph_model(path), load_model(shape_model_path(path))
    seeds = range(options.seed, options.seed + options.count)
    table = evaluate_radiographs(options.kind, seeds, model, shape, options.two_views, console.progress("evaluate"))
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    lines = [f"{key:28s}{value:10.4f}" for key, value in table["means"].items()]
    console.say("\n".join([f"{options.count} radiographs of {options.kind}s that no training saw:", *lines]), table=table)
