"""Bodies and clutter that no training and no tuning saw: errors, landmarks, and whether the stated uncertainty holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from BreastReconstructionLib.core.resources import default_model_path
from BreastReconstructionLib.measurement.regions import REGIONS
from BreastReconstructionLib.phantom.torso import population_torso, skin_points
from BreastReconstructionLib.shape_model.evaluation import fit_and_measure
from BreastReconstructionLib.shape_model.model_file import load_model

from .video_parts import command

FIRST_SEED, BODIES, POINTS = 610_000, 12, 8000
# 1.5 px of a picture of 1480 px focal length at 900 mm.
LANDMARK_NOISE_MM = 0.9
FRAMES = 70
# Coarse surfaces suffice: their vertices lie on the zero level.
DETAIL_MM = 2.5
CLUTTERED = {
    9302: ("hair", "necklace", "drift"),
    9304: ("hair", "necklace", "straps", "sharpened", "gloss"),
    9307: ("hair", "necklace", "waistband", "short-arm", "uneven-light"),
}
FOREIGN_SEEDS = (9401, 9402)


def outside(folder: Path) -> dict:
    """Print the tables; see docs/accuracy.md."""
    model = load_model(default_model_path())
    kinds = {population: bodies(model, population) for population in ("clinic", "wide", "foreign")}
    print("fitted to exact points   mean, mm   95 %   landmarks placed with 1.5 px of noise, mm: mean, worst")
    for name, row in kinds.items():
        print(
            f"{name:24s}{row['mean_mm']:9.2f}{row['p95_mm']:7.2f}{row['landmarks_mm']:12.1f}{row['worst_landmark_mm']:7.1f}",
            flush=True,
        )
    videos = {}
    for seed, clutter in CLUTTERED.items():
        videos[f"clean {seed}"] = video(folder, f"clean{seed}", seed, "wide", ())
        videos[f"clutter {seed}"] = video(folder, f"clutter{seed}", seed, "wide", clutter)
    for seed in FOREIGN_SEEDS:
        videos[f"foreign {seed}"] = video(folder, f"foreign{seed}", seed, "foreign", ())
    table = calibration(videos)
    for name, row in table.items():
        print(f"{name:24s}" + "".join(f"  {key} {value:.2f}" for key, value in row.items()))
    return {
        "left_out_kinds_mm": {name: row["mean_mm"] for name, row in kinds.items()},
        "landmarks_mm": {name: row["landmarks_mm"] for name, row in kinds.items()},
        "clutter_mm": {name: accuracy["as_delivered"]["mean_mm"] for name, accuracy in videos.items()},
        "covered": {name: accuracy["covered"] for name, accuracy in videos.items() if "covered" in accuracy},
        "absent": {name: accuracy["absent"] for name, accuracy in videos.items() if "absent" in accuracy},
        "within_one": table["all"]["within_one"],
        "within_two": table["all"]["within_two"],
        "calibration": table,
    }


def bodies(model, population: str) -> dict[str, float]:
    """Fit torsos of a population to exact points, their landmarks placed with noise."""
    means, tails, landmarks = [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + BODIES):
        torso, rng = population_torso(seed, population), np.random.default_rng([8, seed])
        mm = 1.0 / torso.to_model.scale
        points, _ = skin_points(torso, 2 * POINTS, rng)
        true = torso.to_model.apply(torso.landmarks_ras)
        placed = true + rng.normal(0.0, LANDMARK_NOISE_MM / mm, true.shape)
        fit, errors = fit_and_measure(model, points[:POINTS], placed, points[POINTS:], mm)
        means.append(errors.mean())
        tails.append(np.percentile(errors, 95))
        landmarks.append(np.linalg.norm(fit.anchors_model - fit.refinement.apply(true), axis=1) * mm)
    return {
        "mean_mm": float(np.mean(means)),
        "p95_mm": float(np.mean(tails)),
        "landmarks_mm": float(np.mean(landmarks)),
        "worst_landmark_mm": float(np.max(landmarks)),
    }


def video(folder: Path, name: str, seed: int, population: str, clutter: tuple[str, ...]) -> dict:
    """Film a phantom unless it lies in the folder, reconstruct it, and return its accuracy."""
    film, case = folder / name, folder / f"case-{name}"
    if not (film / "truth.json").exists():
        words = ["--clutter", *clutter] if clutter else []
        checked("phantom", "video", "--seed", seed, "--population", population, "--frames", FRAMES, *words, "-o", film)
    marker = json.loads((film / "truth.json").read_text())["marker"]
    given = ["--landmarks", film / "picks.csv", "--marker", marker, "--truth", film, "--detail", DETAIL_MM]
    checked("reconstruct", film / "video.mp4", *given, "-o", case)
    accuracy = json.loads((case / "accuracy.json").read_text())
    extra = "".join(f"; {key} {accuracy[key]}" for key in ("covered", "absent") if key in accuracy)
    print(f"{name}: {accuracy['as_delivered']['mean_mm']:.2f} mm{extra}", flush=True)
    return accuracy


def checked(*arguments) -> None:
    """Run a command, which must succeed."""
    code, _, _, text = command(*arguments)
    if code != 0:
        raise RuntimeError(text)


def calibration(videos: dict[str, dict]) -> dict[str, dict[str, float]]:
    """By region, and by kind of video: shares of the scored skin within one and two stated standard deviations."""
    kinds = sorted({name.split()[0] for name in videos})
    rows = {
        region: [a["calibration"][region] for a in videos.values() if region in a["calibration"]] for region in ("all", *REGIONS)
    }
    rows |= {kind: [a["calibration"]["all"] for name, a in videos.items() if name.startswith(kind)] for kind in kinds}
    result = {}
    for name, parts in rows.items():
        weights = [part["samples"] for part in parts]
        keys = ("error_mm", "stated_mm", "within_one", "within_two")
        result[name] = {key: float(np.average([part[key] for part in parts], weights=weights)) for key in keys}
    return result
