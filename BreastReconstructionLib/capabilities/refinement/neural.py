"""The stages that learn a neural surface and extract its mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.case import Case
from ...core.errors import CaseError
from ...core.files import disk_errors, hash_of_files
from ...core.progress import Progress
from ...core.run import Inputs
from ...fields.hash_grid import HashGridSize
from ...geometry.transforms import Frame, Similarity
from ...measurement.markers import find_markers
from ...measurement.scale import parse_marker, scale_from_marker
from ...mesh.extraction import cells_for, extract_zero_level, project_to_zero_level
from ...mesh.mesh import TriangleMesh
from ...neural_surface.masks import make_masks, read_masks
from ...neural_surface.network import SphereStart, Start, SurfaceNetwork
from ...neural_surface.scene import Scene, ball_of_cameras, ball_of_masks, scene_of
from ...neural_surface.settings import NeuralSettings
from ...neural_surface.training import train_surface
from ...optimise.trainer import Process
from ...sfm.reconstruction import CameraReconstruction, world_upright
from ...video.frames import Frames
from ...video.pictures import every_picture
from ..torso.stages import ALIGN, CAMERAS, FIT, FRAMES, SURFACE
from .places import displaced_surface, find_places, scene_of_place, start_of_place, whole_torso
from .results import LearnedBall, NeuralMesh, NeuralScene
from .stages import NEURAL, ExtractOptions, NeuralOptions

# With fewer rays a step nothing is learned in any time.
FEWEST_RAYS = 64
WITHOUT_SURFACE = (
    "The case has no surface that is up to date, from which the neural surface could start; reconstruct it first, or start "
    "from a sphere (--start sphere)."
)


@dataclass(frozen=True)
class Pictures:
    """What the neural surface is learned from.

    Attributes:
        frames: the pictures.
        cameras: theirs.
        surface: of the torso, None if the case has none.
        motion: how the patient moved, None if nothing is known; see places.scene_of_place.
    """

    frames: Frames
    cameras: CameraReconstruction
    surface: Any
    motion: Any


def run(options: NeuralOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Learn the surface of the object, or of places of the torso."""
    aligned, fitted = inputs.welcome(ALIGN), inputs.welcome(FIT)
    motion = None if aligned is None or fitted is None else (aligned.world_to_model, fitted.motion)
    pictures = Pictures(inputs.result(FRAMES), inputs.result(CAMERAS), inputs.welcome(SURFACE), motion)
    balls, warnings = learn(options, pictures, Process.started(), inputs.work_folder(), progress)
    NeuralScene.save(folder, options.neural_start, balls, warnings)


def learn(
    options: NeuralOptions, pictures: Pictures, process: Process, work: Path, progress: Progress
) -> tuple[list[LearnedBall], tuple[str, ...]]:
    """Learn the balls that the options ask for; returns them, and what the user should know.

    Raises:
        BreastReconstructionError: its children say what is wrong with masks, cameras or surface.
    """
    decisive = {key: str(value) for key, value in asdict(options).items() if key not in ("neural_rays", "masks")}
    if options.masks is not None and options.masks.is_dir():
        decisive["masks"] = hash_of_files(tuple(every_picture(options.masks)))
    if options.neural_start == "sphere":
        scene, warnings = _scene_of_object(options, pictures, progress.part(0.0, 0.05))
        ball, said = _learned(scene, SphereStart(), options, process, work / "ball-0", progress.part(0.05, 1.0), decisive)
        return [ball], (*warnings, *said)
    if pictures.surface is None:
        raise CaseError(WITHOUT_SURFACE)
    mesh = pictures.surface.mesh
    places = find_places(mesh) if options.neural_start == "places" else [whole_torso(mesh)]
    balls, warnings = [], () if places else ("The refinement moved the surface nowhere by much: nothing was left to learn.",)
    for number, place in enumerate(places):
        part = progress.part(number / len(places), (number + 1) / len(places))
        part(0.0, f"place {number + 1} of {len(places)}")
        seen = scene_of_place(place, pictures.surface, pictures.cameras, pictures.frames.read, pictures.motion)
        if seen is None:
            warnings = (*warnings, f"Place {number + 1} of {len(places)} is seen by too few frames, and stays as it is.")
            continue
        start = start_of_place(place, mesh)
        ball, said = _learned(seen, start, options, process, work / f"ball-{number}", part.part(0.05, 1.0), decisive)
        balls.append(ball)
        warnings = (*warnings, *said)
    return balls, warnings


def _scene_of_object(options: NeuralOptions, pictures: Pictures, progress: Progress) -> tuple[Scene, tuple[str, ...]]:
    frames, cameras = pictures.frames, pictures.cameras
    around = ball_of_cameras(list(cameras.cameras.values()), options.ball)
    warnings: tuple[str, ...] = ()
    masks: Mapping[str, np.ndarray] = {}
    if options.masks is not None:
        own = dict(zip(frames.names, frames.source_names, strict=True)) if frames.source_names else {}
        names = {name: own.get(name, "") for name in cameras.cameras}
        masks = read_masks(options.masks, names, (frames.width, frames.height))
    elif options.make_masks:
        masks = make_masks(cameras.cameras, frames.read, around, progress)
        warnings = ("The masks were made by colours; where the object looks like what is behind it they are wrong: look at it.",)
    else:
        warnings = ("No masks: what stands in the ball beside the object (a table, a stand) is part of the surface.",)
    ball = ball_of_masks(cameras.cameras, masks) if masks else around
    return scene_of(cameras, frames.read, masks, ball, options.neural_pixels), warnings


def _learned(
    scene: Scene,
    start: Start,
    options: NeuralOptions,
    process: Process,
    work: Path,
    progress: Progress,
    decisive: Mapping[str, Any],
) -> tuple[LearnedBall, tuple[str, ...]]:
    """Train; where a graphics card's memory does not suffice, with half the rays, from the last checkpoint on."""
    work.mkdir(parents=True, exist_ok=True)
    settings = settings_of(options)
    warnings: tuple[str, ...] = ()
    while True:
        try:
            network, error = train_surface(scene, start, settings, process, work, progress, decisive)
            return LearnedBall(scene.world_to_ball, network.cpu(), error), warnings
        except torch.OutOfMemoryError:
            if settings.rays < 2 * FEWEST_RAYS:
                raise
            settings = replace(settings, rays=settings.rays // 2)
            warnings = (f"The graphics card's memory suffices for {settings.rays} rays a step only; it took longer.",)
            torch.cuda.empty_cache()


def settings_of(options: NeuralOptions) -> NeuralSettings:
    """Return the training's settings."""
    grid = HashGridSize(levels=options.neural_levels, table_bits=options.neural_table, finest=options.neural_finest)
    return NeuralSettings(
        grid=grid,
        width=options.neural_width,
        steps=options.neural_steps,
        rays=options.neural_rays,
        mask_loss=options.mask_loss,
        mask_weight=options.mask_weight,
        points_weight=options.points_weight,
        eikonal_weight=options.eikonal_weight,
        curvature_weight=options.curvature_weight,
        weight_decay=options.weight_decay,
        seed=options.neural_seed,
    )


def learn_outside(case: Case, options: NeuralOptions, cells: int, output: Path, progress: Progress) -> Path | None:
    """Learn the surface of what a case's frames show, and extract it, in one process or in those of `torchrun`.

    The case is only read. Checkpoint and records are below `output`.

    Returns:
        the path of the mesh; None in all processes but the first.
    """
    process = Process.started()
    surface = case.result(SURFACE) if case.has(SURFACE) else None
    motion = (case.result(ALIGN).world_to_model, case.result(FIT).motion) if surface is not None else None
    pictures = Pictures(case.result(FRAMES), case.result(CAMERAS), surface, motion)
    balls, warnings = learn(options, pictures, process, output / "work", progress)
    if options.neural_start == "sphere":
        mesh, numbers = mesh_of_ball(balls[0], cells, process), {"difference_grey_levels": balls[0].error}
    else:
        mesh, numbers = displaced_surface(surface, balls, progress)
    process.leave()
    if process.rank > 0:
        return None
    with disk_errors(output):
        NeuralMesh.save(output, mesh, {**numbers, "warnings": list(warnings)})
    return NeuralMesh.load(output).file


# Extraction -------------------------------------------------------------------------------------------------------------


def run_extract(options: ExtractOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Extract the mesh, and put it where the torso's surface or a marker says."""
    learned = inputs.result(NEURAL)
    surface = inputs.welcome(SURFACE)
    if learned.start != "sphere":
        if surface is None:
            raise CaseError(WITHOUT_SURFACE)
        mesh, numbers = displaced_surface(surface, learned.balls, progress)
    else:
        (ball,) = learned.balls
        progress(0.1, "mesh")
        mesh = mesh_of_ball(ball, options.neural_cells, Process(0, 1, "cpu"))
        to_patient, scale = _placed(options, inputs, surface)
        if to_patient is not None:
            mesh = mesh.moved(to_patient, Frame.PATIENT)
        numbers = {"scale": scale, "difference_grey_levels": ball.error}
    numbers |= {"vertices": len(mesh.vertices), "warnings": list(learned.warnings)}
    NeuralMesh.save(folder, mesh, numbers)


def mesh_of_ball(ball: LearnedBall, cells: int, process: Process) -> TriangleMesh:
    """Return the learned surface in world, with normals and the colours that it has when seen from straight before it.

    Args:
        ball: what was learned.
        cells: a side of the ball's cube.
        process: this one among several, which share the work.
    """
    network = ball.network.to(process.device)
    field = network.field(process.shared)
    level = extract_zero_level(field, cells_for(2.0 / cells))
    vertices, normals = project_to_zero_level(level, field)
    mesh = TriangleMesh(vertices, level.faces, Frame.WORLD, normals, _colors(network, vertices, normals))
    return mesh.moved(ball.world_to_ball.inverse(), Frame.WORLD)


def _colors(network: SurfaceNetwork, vertices: np.ndarray, normals: np.ndarray) -> np.ndarray:
    device, parts = network.exposure.device, []
    for start in range(0, len(vertices), 65_536):
        points, outward = (
            torch.as_tensor(values[start : start + 65_536], dtype=torch.float32, device=device) for values in (vertices, normals)
        )
        with torch.no_grad():
            _, features = network.distance(points, network.size.grid.levels)
            parts.append(network.colors(points, outward, -outward, features).cpu().numpy())
    return np.clip(255 * np.concatenate(parts), 0, 255).astype(np.uint8)


def _placed(options: ExtractOptions, inputs: Inputs, surface: Any) -> tuple[Similarity | None, str]:
    """Map from world to patient space, None if nothing tells the scale; and where the scale comes from."""
    if options.object_marker:
        cameras = inputs.result(CAMERAS).cameras
        known = parse_marker(options.object_marker)
        seen, _ = find_markers(cameras, inputs.result(FRAMES).read, known)
        known = replace(known, number=seen.number)
        scale = scale_from_marker(known, seen.side_world, seen.side_spread_world, seen.sightings)
        upright = world_upright(list(cameras.values()))
        factor = scale.mm_per_world / upright.scale
        return Similarity(scale.mm_per_world, upright.rotation, factor * upright.translation), scale.source
    if surface is not None:
        return surface.world_to_patient, surface.scale.source
    return None, "none: the mesh has no unit"
