"""The stages that find the skin in a volume and bring the surface to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ...core.errors import RegistrationError
from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.transforms import Similarity, fit_similarity
from ...geometry.volume import read_volume, write_volume
from ...landmarks.curves import read_closed_curves, read_points
from ...landmarks.files import write_landmarks_mrk_json
from ...landmarks.names import LANDMARK_NAMES, NIPPLES
from ...measurement.change import signed_distances_mm
from ...measurement.volume_skin import find_volume_skin
from ...mesh.boundary import on_boundary
from ...mesh.mesh import TriangleMesh
from ...mesh.registration import Registered, register_robustly
from ..torso.stages import SURFACE
from .bending import bend
from .boundaries import drawn_values
from .chest import FEWEST_DECIDING, Chest, chest_of
from .proposals import proposed_landmarks
from .results import DECIDED_BY, FEWEST_LANDMARKS, PROPOSED_FILE, ScanRegistration, ScanSkin
from .stages import SKIN, RegisterOptions, SkinOptions

# Widths of Tukey's kernel, mm, of a search and of the last rounds.
SEARCH_MM, KERNELS_MM = (40.0, 20.0), (20.0, 10.0, 6.0, 3.0)
# Of the last round it follows the residuals (Tukey's constant for 95 % efficiency), within these: what moved with posture lies
# a few mm off and must lose its vote.
TUKEY, LAST_MM = 4.685, (1.5, 6.0)
SEARCH_STEP_MM, SEARCH_SAMPLES, SAMPLES = 35.0, 600, 4000
# Of the skin that decides, median distance: doubted above, refused above. Standing and lying phantoms leave 0.2 to 2 mm.
DOUBTED_MM, REFUSED_MM = 3.0, 5.0
# A mirrored volume that fits so much better, or a scale so far from 1, is said.
MIRRORED_SHARE, LARGEST_SCALE = 0.7, 0.04
LARGEST_LANDMARK_MM = 25.0
# Points of a smooth skin err alike: so many of them are one.
ALIKE = 40.0
BREASTS_MOVE = (
    "Breasts move 3 to 7 cm between standing, lying on the back and lying on the front: only ribs and sternum are where the "
    "registration puts them."
)


def run_skin(options: SkinOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Find the skin in the volume."""
    assert options.volume is not None
    progress(0.02, "reading the volume")
    found = find_volume_skin(read_volume(options.volume), options.modality, progress.part(0.1, 0.9))
    numbers = {
        "modality": found.modality,
        "level": found.level,
        "contrast": found.contrast,
        "vertices": len(found.mesh.vertices),
        "uncertainty_mm": float(np.median(found.mesh.scalars["uncertainty_mm"])),
        "warnings": list(found.warnings),
    }
    ScanSkin.save(folder, found.mesh, numbers)


def run(options: RegisterOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Register the surface to the volume's skin."""
    surface, skin = inputs.result(SURFACE), inputs.result(SKIN).mesh
    progress(0.05, "which place is which")
    chest = chest_of(surface.mesh, surface.landmarks_ras, surface.scale.relative_uncertainty)
    mesh, marks = chest.mesh, chest.landmarks_ras
    decided_by = options.region if options.region_curve is None else "curve"
    decides = chest.deciding(options.region) if options.region_curve is None else _inside(chest, options.region_curve)
    scan_marks = {} if options.scan_landmarks is None else _named(options.scan_landmarks)
    progress(0.2, "start")
    start = find_start(mesh, decides, marks, scan_marks, skin, progress.part(0.2, 0.6))
    progress(0.6, "registration")
    found = registered(mesh, decides, skin, start, options.register_scale)
    residual = np.abs(found.residual[found.weight > 0])
    transform = found.transform
    away = signed_distances_mm(transform.apply(mesh.vertices), transform.apply_directions(_normals(mesh)), skin)
    over = decides & _over(transform.apply(mesh.vertices), skin)
    numbers = {
        **_spread(found, transform.apply(marks)),
        "median_mm": float(np.median(np.abs(away[over]))) if over.any() else float("nan"),
        "p90_mm": float(np.percentile(np.abs(away[over]), 90)) if over.any() else float("nan"),
        "used_share": float(len(residual) / len(found.residual)),
        "decided_by": decided_by,
        "scale": transform.scale,
        "landmarks_mm": {
            n: float(np.linalg.norm(transform.apply(marks[LANDMARK_NAMES.index(n)]) - p)) for n, p in scan_marks.items()
        },
    }
    doubts = _doubts(mesh, decides, skin, found, numbers, options)
    if numbers["median_mm"] > REFUSED_MM and not options.trust_registration:
        apart = f"{numbers['median_mm']:.0f} mm apart on {DECIDED_BY[decided_by]} (median)"
        why = " ".join(doubts) or "Is it the same patient, not mirrored, in millimetres?"
        raise RegistrationError(
            f"The surface does not match the volume's skin: {apart}. {why} Place landmarks on the volume, or say that you have "
            "checked it."
        )
    if options.deformable:
        progress(0.75, "bending to the volume's posture")
        field, left = bend(mesh, transform, skin, marks, scan_marks, progress.part(0.75, 0.95))
        write_volume(folder / "deformation.nrrd", field, is_vector=True)
        numbers["bent_median_mm"] = left
    write_landmarks_mrk_json(folder / PROPOSED_FILE, proposed_landmarks(chest, transform, away, skin))
    shown = replace(mesh, scalars={**mesh.scalars, "scan_distance_mm": away, "stable": decides.astype(float)})
    warnings = (BREASTS_MOVE, *inputs.result(SKIN).numbers["warnings"])
    ScanRegistration(folder, transform, numbers, doubts, warnings).save(shown)


def _inside(chest: Chest, path: Path) -> np.ndarray:
    """(V,) True for measured skin within a drawn curve."""
    (curve, *_) = read_closed_curves(path)
    decides = chest.measured & (drawn_values(chest.mesh, curve) < 0)
    if decides.sum() < FEWEST_DECIDING:
        raise RegistrationError(f"The curve in {path.name} holds too little measured skin to register by; draw it wider.")
    return decides


def _normals(mesh: TriangleMesh) -> np.ndarray:
    assert mesh.normals is not None
    return mesh.normals


def _named(path: Path) -> dict[str, np.ndarray]:
    found = {name: point for name, point in read_points(path).items() if name in LANDMARK_NAMES}
    if len(found) < FEWEST_LANDMARKS:
        raise RegistrationError(
            f"{path.name} names {len(found)} of the landmarks ({', '.join(LANDMARK_NAMES)}); place three or more of them."
        )
    return found


def find_start(
    mesh: TriangleMesh,
    decides: np.ndarray,
    marks: np.ndarray,
    scan_marks: dict[str, np.ndarray],
    skin: TriangleMesh,
    progress: Progress,
) -> Similarity:
    """Return where a registration begins.

    By landmarks on the volume without the nipples, which move; without landmarks it is searched, since both are RAS.

    Raises:
        RegistrationError: the landmarks are of another patient, or surface and volume have too little in common.
    """
    numbers = [LANDMARK_NAMES.index(name) for name in scan_marks]
    steady = [number for number in numbers if number not in NIPPLES]
    used = steady if len(steady) >= FEWEST_LANDMARKS else numbers
    if used:
        placed = np.array([scan_marks[LANDMARK_NAMES[number]] for number in used])
        start = fit_similarity(marks[used], placed, with_scale=False)
        miss = np.linalg.norm(start.apply(marks[used]) - placed, axis=1)
        if miss.max() > 2 * LARGEST_LANDMARK_MM:
            worst = LANDMARK_NAMES[used[int(miss.argmax())]]
            raise RegistrationError(
                f"The landmarks on the volume do not match the surface's ({worst} is {miss.max():.0f} mm off): another patient, "
                "or points that were exchanged?"
            )
        return start
    places, chosen = mesh.vertices[decides], []
    rng = np.random.default_rng(0)
    few = places[rng.choice(len(places), min(SEARCH_SAMPLES, len(places)), replace=False)]
    many = mesh.vertices[rng.choice(len(mesh.vertices), min(4 * SEARCH_SAMPLES, len(mesh.vertices)), replace=False)]
    thinned = rng.choice(len(skin.vertices), min(40_000, len(skin.vertices)), replace=False)
    vertices, normals = skin.vertices[thinned], _normals(skin)[thinned]
    low, high = vertices[:, 2].min() - places[:, 2].min() - 60.0, vertices[:, 2].max() - places[:, 2].max() + 60.0
    steps = np.arange(min(low, high), max(low, high) + 1.0, SEARCH_STEP_MM)
    across = 0.5 * (np.percentile(vertices[:, 0], 1) + np.percentile(vertices[:, 0], 99)) - 0.5 * (
        places[:, 0].min() + places[:, 0].max()
    )
    seen_from_front = cKDTree(vertices[:, [0, 2]])
    for number, along in enumerate(steps):
        progress(number / len(steps), "searching the start")
        offset = np.array([across, 0.0, along])
        distance, index = seen_from_front.query((few + offset)[:, [0, 2]])
        near = distance < 15.0
        if near.mean() < 0.3:
            continue
        offset[1] = np.median(vertices[index[near], 1] - few[near, 1])
        found = register_robustly(few, vertices, normals, SEARCH_MM, start=Similarity(1.0, np.eye(3), offset), iterations=15)
        chosen.append((_cost(found.transform.apply(many), vertices, normals), found.transform))
    if not chosen:
        raise RegistrationError("Surface and volume have too little in common; does the volume show the chest of this patient?")
    return min(chosen, key=lambda pair: pair[0])[1]


def _cost(points: np.ndarray, vertices: np.ndarray, normals: np.ndarray) -> float:
    """Mean robust distance of points to a skin; beyond its edge, what lies sideways counts too."""
    distance, index = cKDTree(vertices).query(points)
    along = np.abs(((points - vertices[index]) * normals[index]).sum(axis=1))
    inside = distance < 2 * along + 8.0
    return float(np.where(inside, np.minimum(along, 25.0), 15.0).mean())


def registered(mesh: TriangleMesh, decides: np.ndarray, skin: TriangleMesh, start: Similarity, with_scale: bool) -> Registered:
    """Register the deciding skin of a surface to a volume's, from a start."""
    places = mesh.vertices[decides]
    places = places[:: max(1, len(places) // SAMPLES)]
    found = register_robustly(places, skin.vertices, _normals(skin), KERNELS_MM, with_scale, start)
    last = float(np.clip(TUKEY * 1.48 * np.median(np.abs(found.residual)), *LAST_MM))
    return register_robustly(places, skin.vertices, _normals(skin), (last,), with_scale, found.transform)


def _over(points: np.ndarray, skin: TriangleMesh) -> np.ndarray:
    """Which points have skin of the volume beside them, and do not lie beyond its edge."""
    return ~on_boundary(skin.faces, len(skin.vertices))[cKDTree(skin.vertices).query(points)[1]]


def _spread(found: Registered, marks_in_scan: np.ndarray) -> dict:
    """Standard deviations of the placement, by the residuals, neighbours of which are alike."""
    covariance = ALIKE * found.covariance
    at = marks_in_scan[list(NIPPLES)].mean(axis=0) - found.transform.apply(np.zeros(3))
    return {
        "rotation_degrees": float(np.degrees(np.sqrt(np.trace(covariance[:3, :3])))),
        "translation_mm": float(np.sqrt(np.trace(covariance[3:6, 3:6]))),
        "nipples_ras": at.tolist(),
    }


def _doubts(
    mesh: TriangleMesh, decides: np.ndarray, skin: TriangleMesh, found: Registered, numbers: dict, options: RegisterOptions
) -> tuple[str, ...]:
    doubts, transform = [], found.transform
    if not numbers["median_mm"] < DOUBTED_MM:
        where = DECIDED_BY[numbers["decided_by"]].capitalize()
        doubts.append(f"{where} lies {numbers['median_mm']:.1f} mm from the volume's skin (median).")
    free = registered(mesh, decides, skin, transform, True)
    factor = free.transform.scale / (transform.scale if options.register_scale else 1.0)
    if not options.register_scale and abs(np.log(factor)) > LARGEST_SCALE:
        doubts.append(
            f"The surface would fit better {100 * (factor - 1):+.0f} % larger: is the video's scale right, and the volume in mm?"
        )
    if options.register_scale and abs(np.log(transform.scale)) > 0.25:
        doubts.append(f"The volume asks for a scale of {transform.scale:.2f}: is it in mm?")
    mirror = np.diag([-1.0, 1.0, 1.0])
    centre = transform.apply(mesh.vertices[decides]).mean(axis=0)
    turned = replace(skin, vertices=(skin.vertices - centre) @ mirror + centre, normals=_normals(skin) @ mirror)
    other = registered(mesh, decides, turned, transform, options.register_scale)
    if _robust_median(other) < MIRRORED_SHARE * _robust_median(found) and _robust_median(found) > 0.7:
        doubts.append("It fits better to the mirrored volume: are left and right exchanged?")
    for name, miss in numbers["landmarks_mm"].items():
        if name not in ("left-nipple", "right-nipple") and miss > LARGEST_LANDMARK_MM:
            doubts.append(f"The {name} on the volume lies {miss:.0f} mm from the surface's.")
    return tuple(doubts)


def _robust_median(found: Registered) -> float:
    return float(np.median(np.abs(found.residual)))
