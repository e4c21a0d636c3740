"""Shapes from a model: random, along its directions, between two cases, and the other side of one."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...capabilities.organ.stages import ORGAN
from ...capabilities.torso.stages import ALIGN, FIT, SURFACE
from ...core.arguments import argument_type
from ...core.case import Case
from ...core.commands import Commands, whole_number
from ...core.console import Console
from ...core.errors import CaseError, ShapeModelError
from ...core.options import option_named
from ...core.resources import TORSO

if TYPE_CHECKING:
    from ...capabilities.organ.results import CompletedOrgan
    from ...shape_model.model import ShapeModel
    from ...shape_model.sampling import MeshWithLandmarks


def add(commands: Commands) -> None:
    """Add the commands."""
    shapes, detail = whole_number(1, 1000), argument_type(option_named(SURFACE.options, "detail_mm"))
    sample = commands.add("sample", "random shapes of the model, as meshes with landmarks", _sample)
    sample.add_argument("count", type=shapes, metavar="N", help="how many")
    sample.add_argument("--seed", type=int, default=0, help="the same seed gives the same shapes")
    words = "the model's strongest directions, at -2, 0 and 2 standard deviations"
    directions = commands.add("directions", words, _directions)
    directions.add_argument("count", type=shapes, metavar="N", help="how many directions")
    interpolate = commands.add("interpolate", "shapes between those of two cases", _interpolate)
    interpolate.add_argument("first", type=Path, metavar="CASE_A", help="case folder with a fit")
    interpolate.add_argument("second", type=Path, metavar="CASE_B", help="case folder with a fit")
    interpolate.add_argument("--count", type=shapes, default=5, metavar="N", help="how many, both ends included (default 5)")
    complete = commands.add("complete", "one side of a case's chest, predicted from the other", _complete)
    complete.add_argument("case", type=Path, metavar="CASE", help="case folder with a fit")
    complete.add_argument("--side", choices=("left", "right"), required=True, help="the patient's side to be predicted")
    for sub in (sample, directions, interpolate, complete):
        sub.add_argument("--model", type=Path, metavar="FILE", help="shape model (default: see 'model default')")
        sub.add_argument("--detail", type=detail, default=3.0, metavar="D", help="mm, or preview, normal, fine (default 3 mm)")
        sub.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder to write to")


def _write_shapes(
    shapes: Iterable[tuple[str, MeshWithLandmarks]], landmark_names: tuple[str, ...], folder: Path, console: Console
) -> None:
    """Write shapes in patient space, with their names, as they come."""
    from ...landmarks.files import write_landmarks_mrk_json
    from ...mesh.files import write_ply

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, shape in shapes:
        write_ply(folder / f"{name}.ply", shape.mesh)
        if landmark_names:
            write_landmarks_mrk_json(folder / f"{name}.mrk.json", dict(zip(landmark_names, shape.landmarks, strict=True)))
        names.append(name)
    console.say(f"{len(names)} shapes with landmarks are in {folder}.", folder=str(folder), names=names)


def _sample(options: argparse.Namespace, console: Console) -> None:
    from ...shape_model.model_file import load_model
    from ...shape_model.sampling import random_codes

    model = load_model(options.model)
    codes = random_codes(model, options.count, options.seed)
    _write_codes(model, ((f"sample{i:03d}", code) for i, code in enumerate(codes)), options, console)


def _directions(options: argparse.Namespace, console: Console) -> None:
    import numpy as np

    from ...shape_model.model_file import load_model
    from ...shape_model.sampling import codes_along

    model = load_model(options.model)
    deviations = np.array([-2.0, 0.0, 2.0])
    named = (
        (f"direction{k + 1}_{deviation:+.0f}", code)
        for k in range(options.count)
        for deviation, code in zip(deviations, codes_along(model, k, deviations), strict=True)
    )
    _write_codes(model, named, options, console)


def _write_codes(model: ShapeModel, named: Iterable, options: argparse.Namespace, console: Console) -> None:
    """Write the shapes of (name, code) at the model's mean scale."""
    from ...shape_model.sampling import mesh_of_code

    cell = options.detail / model.mm_per_unit
    shapes = ((name, mesh_of_code(model, code, cell).in_patient(model)) for name, code in named)
    _write_shapes(shapes, model.landmark_names, options.output, console)


def _fitted(folder: Path) -> Case:
    """A case that has a fit."""
    case = Case(folder)
    if FIT.name not in case.stages:
        raise CaseError(f"The case {folder.name} has no fit yet; run 'breast-reconstruction reconstruct' first.")
    return case


def _completed(folder: Path) -> CompletedOrgan:
    """The organ of a case."""
    case = Case(folder)
    if ORGAN.name not in case.stages:
        raise CaseError(f"The case {folder.name} has no organ yet; run 'breast-reconstruction organ fit' first.")
    return case.result(ORGAN)


def _interpolate(options: argparse.Namespace, console: Console) -> None:
    import torch

    from ...shape_model.model_file import load_model
    from ...shape_model.sampling import codes_between

    model = load_model(options.model)
    fits = []
    for folder in (options.first, options.second):
        code = _fitted(folder).result(FIT).fit.code if model.organ == TORSO else _completed(folder).fit.code
        if code.shape != model.latent_mean.shape:
            raise ShapeModelError(f"The case {folder.name} was fitted with another model; give it by --model.")
        fits.append(torch.from_numpy(code))
    codes = codes_between(*fits, options.count)
    _write_codes(model, ((f"between{i:03d}", code) for i, code in enumerate(codes)), options, console)


def _complete(options: argparse.Namespace, console: Console) -> None:
    import torch

    from ...geometry.transforms import Frame
    from ...shape_model.model_file import load_model
    from ...shape_model.sampling import complete_side, mesh_of_code

    model, case = load_model(options.model).required(TORSO), _fitted(options.case)
    aligned = case.result(ALIGN)
    # Of this case's surface, so that the prediction lies in place on it.
    aligned_to_patient = case.result(SURFACE).world_to_patient.after(aligned.world_to_model.inverse())
    fit = complete_side(aligned.points_model, aligned.landmarks_model, model, options.side, noise_model=aligned.noise_model)
    to_patient = aligned_to_patient.after(fit.refinement.inverse())
    shape = mesh_of_code(model, torch.from_numpy(fit.code), options.detail / to_patient.scale)
    named = [(f"predicted-{options.side}", shape.moved(to_patient, Frame.PATIENT))]
    _write_shapes(named, model.landmark_names, options.output, console)
