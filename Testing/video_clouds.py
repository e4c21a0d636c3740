"""`python -m Testing.video_clouds FOLDER`: the clouds of finished phantom cases, for the evaluation of shape models.

FOLDER is what `Testing.Benchmarks --only demo,videos --folder FOLDER` left. Each cloud, with the picked landmarks, is laid on
its torso by the similarity of closest points: what is compared is shape, with the errors that a video's points really have.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from BreastReconstructionLib.capabilities.torso.stages import ALIGN
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.geometry.transforms import fit_similarity
from BreastReconstructionLib.mesh.mesh import vertex_normals
from BreastReconstructionLib.mesh.registration import register_to_surface
from BreastReconstructionLib.phantom.torso import Torso, sample_torso
from Testing.Benchmarks.video_parts import VIDEOS

POINTS = 10_000
SAMPLE_SEED = 1


def cloud_of_case(case: Path, torso: Torso) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 3) points and (6, 3) landmarks of a case in the model frame of its torso."""
    aligned = Case(case).result(ALIGN)
    skin = torso.to_model.apply(torso.vertices_ras)
    first = fit_similarity(aligned.landmarks_model, torso.to_model.apply(torso.landmarks_ras))
    points = first.apply(aligned.points_model)
    chosen = np.random.default_rng(0).choice(len(points), min(POINTS, len(points)), replace=False)
    closer = register_to_surface(points[chosen], skin, vertex_normals(skin, torso.faces), with_scale=True)
    return closer.apply(points[chosen]), closer.apply(first.apply(aligned.landmarks_model))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m Testing.video_clouds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with finished cases demo-normal, case2, …")
    parser.add_argument("-o", "--output", type=Path, default=Path("Resources/Phantom/video_clouds.npz"))
    options = parser.parse_args()
    cases = {SAMPLE_SEED: options.folder / "demo-normal"} | {seed: options.folder / f"case{seed}" for seed, _ in VIDEOS}
    cases = {seed: case for seed, case in cases.items() if (case / "accuracy.json").exists()}
    arrays: dict[str, np.ndarray] = {"seeds": np.array(sorted(cases))}
    for seed, case in cases.items():
        points, landmarks = cloud_of_case(case, sample_torso(seed)[0])
        arrays |= {f"points{seed}": points.astype(np.float32), f"landmarks{seed}": landmarks}
    np.savez_compressed(options.output, **arrays)
    print(options.output)


if __name__ == "__main__":
    main()
