"""Landmarks that the program proposes, on bodies, rooms and clutter that no training saw; and surfaces of patients who turn."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from BreastReconstructionLib.core.resources import LANDMARK_NETWORK, bundled_model_path, resource_path
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.mesh.mesh import sample_surface
from BreastReconstructionLib.phantom.clutter import hidden_landmarks
from BreastReconstructionLib.phantom.exposure import expose, shake
from BreastReconstructionLib.phantom.landmark_pictures import CLUTTER_SHARES
from BreastReconstructionLib.phantom.rendering import SceneRenderer
from BreastReconstructionLib.phantom.studio import build_studio
from BreastReconstructionLib.phantom.torso import population_torso
from BreastReconstructionLib.phantom.video import PhantomVideoSettings, phone_path
from BreastReconstructionLib.proposal.model_file import load_landmark_network
from BreastReconstructionLib.proposal.propose import propose_landmarks

from .video_parts import command

# Bodies and rooms that no training saw. Of the 'foreign' ones, which no training draws from, landmarks wander over the skin where
# nothing shows it (the notch by up to 20 mm, the coracoids by up to 22): what is left then is what nobody can see.
FIRST_SEED, FRAMES = 820_000, 20
BODIES = {"clinic": 20, "foreign": 6}
POINTS, POINT_NOISE_MM = 40_000, 1.5
# Population of videos of patients who turn, by seed.
TURNING = {9110: "plain", 9111: "wide", 9112: "clinic"}


def landmarks(folder: Path) -> dict:
    """Print the errors of what is proposed, and what accepting it does to the sample's surface; see docs/accuracy.md."""
    network, _ = load_landmark_network(bundled_model_path(LANDMARK_NETWORK))
    tables = {population: table(network, population, count) for population, count in BODIES.items()}
    result = {**tables["clinic"], "wandering": tables["foreign"]}
    result["sample"] = {how: sample_error(folder, how) for how in ("clicked", "proposed")}
    print(json.dumps(result), flush=True)
    return result


def table(network, population: str, count: int) -> dict:
    """Errors of what is proposed on bodies of a population."""
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        rows.append(proposed(network, seed, population))
        words = zip(rows[-1]["errors_mm"], rows[-1]["confidence"], rows[-1]["hidden"], strict=True)
        print(population, seed, " ".join(f"{e:5.1f} ({c:.2f}{' hidden' if h else ''})" for e, c, h in words), flush=True)
    errors, confidence, hidden = (np.array([row[key] for row in rows]) for key in ("errors_mm", "confidence", "hidden"))
    given = np.isfinite(errors) & ~hidden
    return {
        "median_mm": float(np.median(errors[given])),
        "p95_mm": float(np.quantile(errors[given], 0.95)),
        "by_landmark_mm": {name: float(np.median(errors[given[:, k], k])) for k, name in enumerate(LANDMARK_NAMES)},
        "given_share": float(given.sum() / (~hidden).sum()),
        "hidden_but_given_share": float(np.isfinite(errors)[hidden].mean()) if hidden.any() else None,
        "confidence_rank_correlation": float(spearmanr(confidence[given], -errors[given]).statistic),
        "seconds": float(np.median([row["seconds"] for row in rows])),
    }


def proposed(network, seed: int, population: str) -> dict:
    """Propose landmarks of a body in pictures of exact cameras, on noisy points of its skin."""
    rng = np.random.default_rng([83, seed])
    clutter = tuple(kind for kind, share in CLUTTER_SHARES.items() if rng.random() < share)
    settings = PhantomVideoSettings(
        seed=seed, frames=FRAMES, width=540, height=960, focal_px=740.0, population=population, clutter=clutter, skin_texels=1536
    )
    torso = population_torso(seed, population)
    renderer = SceneRenderer(settings.width, settings.height)
    build_studio(renderer, torso, [], settings, rng)
    target = torso.landmarks_ras[[0, 1]].mean(axis=0)
    cameras = phone_path(settings, target, rng)
    pictures = {}
    for k, camera in enumerate(cameras):
        pictures[camera.name] = expose(renderer.render(camera), shake(cameras, k, target, rng), rng, None)[..., ::-1]
    renderer.close()
    points, normals = sample_surface(torso.vertices_ras, torso.faces[: torso.skin_face_count], POINTS, rng)
    points = points + rng.normal(0, POINT_NOISE_MM, points.shape)
    by_name = {camera.name: camera for camera in cameras}
    start = time.perf_counter()
    found = propose_landmarks(network, by_name, pictures.__getitem__, points, normals)
    seconds = time.perf_counter() - start
    errors = np.linalg.norm(found.points_world - torso.landmarks_ras, axis=1)
    hidden = np.broadcast_to(hidden_landmarks(clutter), errors.shape)
    return {"errors_mm": errors, "confidence": found.confidence, "hidden": hidden, "seconds": seconds}


def sample_error(folder: Path, how: str) -> float:
    """Mean error, mm, of the sample's surface by clicked landmarks or by proposed ones."""
    sample = resource_path("SampleData", "phantom")
    given = ["--landmarks", sample / "picks.csv"] if how == "clicked" else ["--accept-proposed"]
    marker = json.loads((sample / "truth.json").read_text())["marker"]
    return _reconstructed(sample, folder / f"landmarks-{how}", marker, given)


def _reconstructed(video: Path, case: Path, marker: str, given: list) -> float:
    code, _, _, text = command("reconstruct", video / "video.mp4", "-o", case, "--marker", marker, "--truth", video, *given)
    if code != 0:
        raise SystemExit(text)
    return json.loads((case / "accuracy.json").read_text())["as_delivered"]["mean_mm"]


def turning(folder: Path) -> dict:
    """Print the errors of surfaces of patients who turn before a phone on a tripod."""
    errors = []
    for seed, population in TURNING.items():
        video = _filmed(folder, seed, population)
        marker = json.loads((video / "truth.json").read_text())["marker"]
        errors.append(_reconstructed(video, folder / f"turning{seed}-case", marker, ["--landmarks", video / "picks.csv"]))
        print(f"turning {seed} ({population}): {errors[-1]:.2f} mm", flush=True)
    return {"mean_mm": errors}


def _filmed(folder: Path, seed: int, population: str) -> Path:
    video = folder / f"turning{seed}"
    if not (video / "truth.json").exists():
        options = ["--frames", 70, "--population", population, "--patient-turns", 1]
        command("phantom", "video", "--seed", seed, *options, "-o", video)
    return video
