"""Skin of volumes, registration, distances, volumes and change, on phantoms that nothing was made from or tuned on."""

from __future__ import annotations

import json
import time
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from BreastReconstructionLib.capabilities.clinic import measure, register
from BreastReconstructionLib.capabilities.clinic.boundaries import dense_curve
from BreastReconstructionLib.capabilities.clinic.chest import Chest, chest_of
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.geometry.transforms import Frame, Similarity
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.measurement.volume_skin import find_volume_skin
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.geodesics import length_of, surface_path
from BreastReconstructionLib.mesh.mesh import TriangleMesh, vertex_normals
from BreastReconstructionLib.phantom.deformation import breast_truth
from BreastReconstructionLib.phantom.posture import body_of, twin_volume_ml
from BreastReconstructionLib.phantom.scan import PhantomScanSettings, closed_body, make_scan
from BreastReconstructionLib.phantom.torso import Torso, sample_clinic_torso
from BreastReconstructionLib.shape_model.atlas import SIDES
from BreastReconstructionLib.shape_model.atlas_training import fold_vertices

from .outside import checked

FIRST_SEED, BODIES, SCANNED = 720_000, 20, 6
# Visits of bodies; at visit 1 the left breast is larger by so many ml, between the others nothing changed.
ADDED_ML, VISITED = 100, {9501: (0, 1, 2, 3), 9502: (0, 1, 2, 3), 9503: (0, 2, 3), 9504: (0, 2)}
LANDMARK_ERROR_MM = 10.0
SCANS = {
    "ct 1 mm": {"spacing_mm": (0.8, 1.0)},
    "ct 3 mm": {"spacing_mm": (0.9, 3.0)},
    "ct 5 mm, oblique": {"spacing_mm": (0.9, 5.0), "oblique_degrees": 6.0},
    "mri 2 mm": {"modality": "mri", "spacing_mm": (1.2, 2.0)},
    "mri 2 mm, prone in a coil": {"modality": "mri", "posture": "prone", "spacing_mm": (1.2, 2.0), "bias": 1.0},
    "mri 3 mm, oblique": {"modality": "mri", "spacing_mm": (1.4, 3.0), "oblique_degrees": 8.0, "bias": 0.8},
}


def clinic(folder: Path) -> dict:
    """Print the tables; see docs/accuracy.md."""
    skins = {name: skin_error(FIRST_SEED + 1, values) for name, values in SCANS.items()}
    for name, row in skins.items():
        print(
            f"skin of {name}: {row['mean_mm']:.2f} mm mean, 95 % within {row['p95_mm']:.2f}, {row['seconds']:.0f} s", flush=True
        )
    standing = [registration(seed, "standing", True) for seed in seeds(SCANNED)]
    lying = [registration(seed, "lying", False) for seed in seeds(SCANNED)]
    prone = [registration(seed, "prone", False) for seed in seeds(SCANNED)]
    print("registered, mm: standing, landmarks 10 mm wrong: " + " ".join(f"{r['front_mean_mm']:.2f}" for r in standing))
    for name, rows in (("lying", lying), ("prone", prone)):
        print(f"{name}, searched start: ribs and sternum, median " + " ".join(f"{r['median_mm']:.2f}" for r in rows), flush=True)
    geodesics = [geodesic_error(seed) for seed in seeds(4)]
    print(f"geodesics against exact ones: largest difference {100 * max(geodesics):.4f} %", flush=True)
    bodies = [body for seed in seeds(BODIES) for body in breast_errors(seed)]
    twin = np.array([[b["population_ml"] - b["twin_ml"] for b in bodies if b["pair"] == n] for n in {b["pair"] for b in bodies}])
    boundary, fold = (float(np.mean([b[key] for b in bodies])) for key in ("boundary_mm", "fold_mm"))
    print(
        f"population's wall against the twin: {np.abs(twin).mean():.0f} ml mean absolute, bias {twin.mean():+.0f}; left minus "
        f"right {np.abs(twin[:, 0] - twin[:, 1]).mean():.0f} ml; boundary {boundary:.1f} mm, fold {fold:.1f} mm",
        flush=True,
    )
    changes = [change for seed, visits in VISITED.items() for change in changes_between(folder, seed, visits)]
    false = sum(abs(change["ml"]) > 2 * change["sure_ml"] for change in changes if not change["true_ml"])
    print(
        f"pairs without a change that are called one: {false} of {sum(not change['true_ml'] for change in changes)}", flush=True
    )
    return {
        "skin_ct_mean_mm": max(row["mean_mm"] for name, row in skins.items() if name in ("ct 1 mm", "ct 3 mm")),
        "standing_mean_mm": float(np.mean([r["front_mean_mm"] for r in standing])),
        "lying_median_mm": float(np.mean([r["median_mm"] for r in lying])),
        "lying_p90_mm": float(np.max([r["p90_mm"] for r in lying])),
        "geodesic_relative": float(max(geodesics)),
        "volume_twin_mean_ml": float(np.abs(twin).mean()),
        "change_100_error_ml": float(np.max([abs(c["ml"] - c["true_ml"]) for c in changes if c["true_ml"]])),
        "difference_ml": float(np.abs(twin[:, 0] - twin[:, 1]).mean()),
        "boundary_mm": boundary,
        "fold_mm": fold,
        "skins": skins,
        "standing": standing,
        "lying": lying,
        "prone": prone,
        "changes": changes,
    }


def seeds(count: int) -> range:
    """Seeds of unseen bodies."""
    return range(FIRST_SEED, FIRST_SEED + count)


def exact_surface(torso: Torso) -> TriangleMesh:
    """The torso's exact skin."""
    count, faces = torso.skin_vertex_count, torso.faces[: torso.skin_face_count]
    vertices = torso.vertices_ras[:count]
    return TriangleMesh(
        vertices, faces, Frame.PATIENT, vertex_normals(vertices, faces), scalars={"uncertainty_mm": np.full(count, 0.5)}
    )


def skin_error(seed: int, values: dict) -> dict[str, float]:
    """Distance of the skin that is found in a volume from the exact one, which is closed where a phantom's arms end."""
    scan = make_scan(PhantomScanSettings(seed=seed, population="clinic", **{"posture": "lying", **values}))
    started = time.perf_counter()
    found = find_volume_skin(scan.volume).mesh
    seconds = time.perf_counter() - started
    some = found.vertices[:: max(1, len(found.vertices) // 8000)]
    truth = closed_body(scan.skin.vertices, scan.skin.faces)
    distance, _ = closest_on_mesh(some, truth.vertices, truth.faces)
    return {"mean_mm": float(distance.mean()), "p95_mm": float(np.percentile(distance, 95)), "seconds": seconds}


def registration(seed: int, posture: str, landmarks: bool) -> dict[str, float]:
    """Register an exact surface, moved as a video's would be, to the skin of a CT; how far it lies from where it belongs."""
    torso, rng = sample_clinic_torso(seed)[0], np.random.default_rng(seed)
    turn = Rotation.from_euler("xyz", rng.normal(0.0, 5.0, 3), degrees=True).as_matrix()
    own = Similarity(1.0, turn, rng.normal(0.0, 100.0, 3))
    surface, marks = exact_surface(torso).moved(own, Frame.PATIENT), own.apply(torso.landmarks_ras)
    modality = "mri" if posture == "prone" else "ct"
    values = {"posture": posture, "modality": modality, "spacing_mm": (1.0, 3.0)}
    scan = make_scan(PhantomScanSettings(seed=seed, population="clinic", **values))
    skin = find_volume_skin(scan.volume).mesh
    chest = chest_of(surface, marks, 0.005)
    decides, placed = chest.deciding("ribs"), {}
    if landmarks:
        wrong = rng.normal(size=(6, 3))
        wrong *= LANDMARK_ERROR_MM / np.linalg.norm(wrong, axis=1, keepdims=True)
        placed = dict(zip(LANDMARK_NAMES, scan.landmarks_ras + wrong, strict=True))
    start = register.find_start(chest.mesh, decides, marks, placed, skin, Progress())
    found = register.registered(chest.mesh, decides, skin, start, False)
    error = np.linalg.norm(found.transform.apply(surface.vertices) - torso.vertices_ras[: torso.skin_vertex_count], axis=1)
    front = chest.normals[:, 1] > 0.3
    return {
        "front_mean_mm": float(error[front].mean()),
        "median_mm": float(np.median(error[decides])),
        "p90_mm": float(np.percentile(error[decides], 90)),
    }


def geodesic_error(seed: int) -> float:
    """Largest relative difference from the exact geodesics (Mitchell et al. 1987, libigl) between landmarks."""
    import igl

    torso = sample_clinic_torso(seed)[0]
    surface = exact_surface(torso)
    index = cKDTree(surface.vertices).query(torso.landmarks_ras)[1]
    faces, none = surface.faces.astype(np.int64), np.empty(0, np.int64)
    exact = igl.exact_geodesic(surface.vertices, faces, index[:1].astype(np.int64), none, index[1:4].astype(np.int64), none)
    ours = []
    for other in index[1:4]:
        path = surface_path(surface.vertices, surface.faces, surface.vertices[index[0]], surface.vertices[other])
        ours.append(length_of(path))
    return float(np.abs(np.array(ours) / np.asarray(exact) - 1.0).max())


def breast_errors(seed: int) -> list[dict]:
    """Volume against the twin, boundary and fold of both breasts of a body; none if one was removed."""
    sampled = sample_clinic_torso(seed)
    if max(sampled[2].left.flattened, sampled[2].right.flattened) > 0:
        return []
    body = body_of(sampled)
    torso, twin = body.torso(), body.twin()
    chest = chest_of(exact_surface(torso), torso.landmarks_ras, 0.005)
    values, _ = measure.boundaries_of(chest, [])
    breasts, _ = measure.breasts_of(chest, values)
    exact, edges = twin_volume_ml(torso, twin), breast_truth(torso.body_ras)
    return [_breast_error(seed, chest, breast, torso, exact, edges) for breast in breasts]


def _breast_error(seed: int, chest: Chest, breast, torso: Torso, exact: dict, edges: dict) -> dict:
    edge = dense_curve(edges[f"{breast.side}_breast_boundary_ras"])
    fold = torso.vertices_ras[fold_vertices()[SIDES.index(breast.side)]]
    return {
        "pair": seed,
        "population_ml": breast.volumes_ml["population"],
        "twin_ml": exact[breast.side],
        "boundary_mm": float(cKDTree(edge).query(breast.boundary_ras)[0].mean()),
        "fold_mm": float(cKDTree(fold).query(chest.fit.points_ras.fold[breast.side])[0].mean()),
    }


def changes_between(folder: Path, seed: int, visits: tuple[int, ...]) -> list[dict]:
    """Film the visits of a body, and compare those between which something changed, or nothing."""
    cases, found = {}, []
    for visit in visits:
        film = folder / f"visit-{seed}-{visit}"
        if not (film / "truth.json").exists():
            words = ["--seed", seed, "--visit", visit, "--added", ADDED_ML if visit == 1 else 0]
            checked("phantom", "video", *words, "--frames", 70, "--population", "clinic", "-o", film)
        marker = json.loads((film / "truth.json").read_text())["marker"]
        cases[visit] = film / "case"
        checked("reconstruct", film / "video.mp4", "--landmarks", film / "picks.csv", "--marker", marker, "-o", cases[visit])
    for earlier, later in combinations(visits, 2):
        if 1 in (earlier, later) and (earlier, later) != (0, 1):
            continue
        checked("compare", "--earlier", cases[earlier], "-o", cases[later])
        rows = json.loads((cases[later] / "compare" / "changes.json").read_text())
        row = next(row for row in rows if row["unit"] == "ml" and row["side"] == "left")
        true = float(ADDED_ML if later == 1 else 0)
        found.append({"true_ml": true, "ml": row["value"], "sure_ml": row["uncertainty"]})
        print(f"change of {true:.0f} ml between videos: {row['value']:.0f} ± {row['uncertainty']:.0f} ml", flush=True)
    return found
