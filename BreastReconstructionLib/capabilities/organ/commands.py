"""The commands of this capability: from segmentations to a model of an organ, and from a part of one to the whole of it."""

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
from . import ORGAN
from .stages import ORGAN as ORGAN_STAGE

VARIANTS = ("small", "large", "local", "global")


def add(commands: Commands) -> None:
    """Add the commands."""
    organ = commands.group("organ", "shape models of organs: made from segmentations, and used to complete them")
    _add_prepare(organ)
    _add_train(organ)
    fit = organ.add("fit", "the whole organ from a segmentation, a part of one, points or contours", _fit, ORGAN.stages)
    fit.add_argument("-o", "--output", type=Path, required=True, metavar="CASE", help="case folder")
    _add_evaluate(organ)


def _add_prepare(organ: Commands) -> None:
    prepare = organ.add("prepare", "make training data of a folder of segmentations or closed meshes", _prepare)
    words = "folder of .nii.gz, .nrrd, .dcm (SEG), .ply, .stl, .obj; landmarks beside them as NAME.mrk.json"
    prepare.add_argument("folder", type=Path, metavar="FOLDER", help=words)
    prepare.add_argument("--organ", required=True, metavar="NAME", help="what it is, for example lungs")
    _add_segments(prepare)
    words = "of how many closed bodies the organ consists (default: as many as in the first file)"
    prepare.add_argument("--parts", type=whole_number(1, 20), metavar="N", help=words)
    prepare.add_argument("--npz", type=Path, metavar="FOLDER", help="write the samples as npz of DeepSDF's layout too")
    prepare.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".h5 to write")


def _add_train(organ: Commands) -> None:
    train = organ.add("train", "train a model on three quarters of the organs; resumes; under torchrun on several cards", _train)
    train.add_argument("data", type=Path, nargs="+", metavar="DATA", help=".h5 of 'organ prepare'")
    train.add_argument("--name", required=True, help="of the model")
    words = "'small' trains on a processor in minutes, 'large' is as large as the published lung model (default small)"
    train.add_argument("--variant", choices=VARIANTS, default="small", help=words)
    train.add_argument("--steps", type=whole_number(1, 1_000_000), default=10_000, metavar="N", help="at most (default 10000)")
    train.add_argument("--population", default="not stated", metavar="WORDS", help="whose organs these are, for the card")
    train.add_argument("--licence", default="not stated", metavar="WORDS", help="of the model, for the card")
    for name, words in (("surface", "mean |f| on the surface"), ("eikonal", "| |gradient| - 1 |"), ("normal", "normals")):
        flag = f"--{name}-weight"
        train.add_argument(flag, type=_weight, default=0.0, metavar="W", help=f"of a further loss: {words} (default 0: none)")
    train.add_argument("--seed", type=int, default=0, help="of the optimisation, and of what is held out")
    train.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="checkpoint")
    train.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the model")


def _add_evaluate(organ: Commands) -> None:
    evaluate = organ.add("evaluate", "how well a model completes organs, beside its mean and principal components", _evaluate)
    evaluate.add_argument("folder", type=Path, metavar="FOLDER", help="segmentations or closed meshes: the truth")
    evaluate.add_argument("--model", type=Path, metavar="FILE", help="shape model (default: the bundled synthetic lungs)")
    _add_segments(evaluate)
    words = "the folder is the one that the model was prepared from: score the quarter that it was not trained on"
    evaluate.add_argument("--held-out", action="store_true", help=words)
    evaluate.add_argument("--most", type=whole_number(1, 1000), default=20, metavar="N", help="organs at most (default 20)")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the table here")


def _add_segments(parser: argparse.ArgumentParser) -> None:
    words = "names or labels of the segments that are the organ together, separated by commas (default: all)"
    parser.add_argument("--segments", default="", metavar="NAMES", help=words)


def _weight(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _prepare(options: argparse.Namespace, console: Console) -> None:
    from ...shape_model.organ_data import OrganSource, prepare_organ
    from .complete import segment_names

    source = OrganSource(options.organ, segment_names(options.segments), options.parts)
    notes = prepare_organ(options.folder, options.output, source, options.npz, console.progress("prepare"))
    lines = [f"The training data are in {options.output}.", *(f"Note: {note}." for note in notes)]
    console.say("\n".join(lines), data=str(options.output), notes=notes)


def _train(options: argparse.Namespace, console: Console) -> None:
    import torch

    from ...shape_model.organ_training import train_organ
    from ...shape_model.training_settings import TrainingSettings

    settings = TrainingSettings(
        name=options.name,
        variant=options.variant,
        population=options.population,
        licence=options.licence,
        steps=options.steps,
        learning_rate=2e-3,
        code_learning_rate=2e-3,
        surface_weight=options.surface_weight,
        eikonal_weight=options.eikonal_weight,
        normal_weight=options.normal_weight,
        seed=options.seed,
    )
    torch.set_flush_denormal(True)  # of this whole process, which does nothing but train; see cli/commands/train.py
    path = train_organ(tuple(options.data), settings, options.work, options.output, console.progress("train"))
    if path is not None:
        card = json.loads(path.with_suffix(".json").read_text())
        words = f"The model is in {path}."
        if "mean_mm" in card["metrics"]:
            words += f" On organs that it never saw: {card['metrics']['mean_mm']:.2f} mm."
        console.say(words, model=str(path), metrics=card["metrics"])


def _fit(options: argparse.Namespace, console: Console) -> None:
    settings = options.settings_of(options)
    say_result(run(options.output, ORGAN, settings, (ORGAN_STAGE,), console.event, console.token), ORGAN_STAGE, console)


def say_result(case: Case, goal: Stage[Any, Any], console: Console) -> None:
    """Say what the stage made."""
    result = case.result(ORGAN_STAGE)
    numbers = result.numbers
    lines = [
        f"{numbers['organ'].capitalize()}: {numbers['volume_ml']:.0f} ± {numbers['volume_uncertainty_ml']:.0f} ml, "
        f"{numbers['seen_percent']:.0f} % of the surface was given, the rest is the model's ({numbers['model']}: "
        f"{numbers['population']}; not for diagnosis).",
        f"The files are in {case.folder}.",
        *(f"Note: {warning}" for warning in result.warnings),
    ]
    console.say("\n".join(lines), case=str(case.folder), **numbers)


def _evaluate(options: argparse.Namespace, console: Console) -> None:
    from ...shape_model.model_file import load_model
    from ...shape_model.organ_evaluation import PUBLISHED, evaluate_organ, parted, read_organs
    from .complete import segment_names
    from .sources import model_path

    model = load_model(model_path(options.model))
    organs = read_organs(options.folder, model, segment_names(options.segments))
    trained, others = parted(organs, model) if options.held_out else ([], organs)
    table = evaluate_organ(model, others[: options.most], trained, console.progress("evaluate"))
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    count, floor = min(len(others), options.most), table["chamfer_floor"]
    lines = [f"{count} {model.organ}; Chamfer squared, both sides, in model units, of which sampling alone gives {floor:.6f}"]
    columns = ("chamfer", "f_001", "f_002", "iou", "surface_mm", "two_sided_mm", "p95_mm", "volume_percent", "whole")
    lines.append(f"{'':13s}{'':12s}" + "".join(f"{name:>15s}" for name in columns))
    for protocol, methods in table["means"].items():
        for method, values in methods.items():
            lines.append(f"{protocol:13s}{method:12s}" + "".join(f"{values[name]:15.5g}" for name in columns))
    f, chamfer = PUBLISHED["f"], PUBLISHED["chamfer"]
    lines.append(
        f"For orientation, LPM's own table, on other lungs, without units: F {f[0]} / {f[1]}, Chamfer {chamfer[0]} / {chamfer[1]}"
    )
    console.say("\n".join(lines), table=table)
