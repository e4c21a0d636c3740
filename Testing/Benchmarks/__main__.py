"""python -m Testing.Benchmarks [--only demo,extraction,videos] [--json F]: the figures that the README states, printed.

- demo: the bundled sample through the command line: time, peak memory, error.
- extraction: our surface against the published dense grid on the same shape in the same run: ratio of times, and how far
  the two zero levels lie apart.
- videos: five further phantom videos (other bodies, skins, rooms, paths, lenses), rendered and reconstructed: a table.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Bodies that no training ever saw; what differs besides body, skin, room and path is in the options.
VIDEOS = (
    (2, ["--distortion", "-0.06", "0.02"]),
    (3, ["--distortion", "-0.10", "0.03", "--distance", "850"]),
    (4, ["--breathing", "2"]),
    (5, ["--contrast", "easy", "--sweep", "150", "--distance", "950"]),
    (6, ["--distortion", "0.05", "-0.01", "--sweep", "170", "--distance", "800"]),
)


def command(*arguments) -> tuple[int, float, str]:
    """Run the command line; return its exit code, seconds, and what it printed."""
    start = time.perf_counter()
    words = [sys.executable, "-m", "BreastReconstructionLib", *map(str, arguments)]
    finished = subprocess.run(words, capture_output=True, text=True, check=False)
    return finished.returncode, time.perf_counter() - start, finished.stdout + finished.stderr


def demo(folder: Path) -> dict:
    """The bundled sample."""
    code, seconds, text = command("demo", "-o", folder / "demo")
    if code != 0:
        print(text)
        return {"failed": text.strip().splitlines()[-1]}
    accuracy = json.loads((folder / "demo" / "accuracy.json").read_text())
    stages = json.loads((folder / "demo" / "case.json").read_text())["stages"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"demo: {seconds:.0f} s, peak memory {peak:.2f} GB")
    print("  " + ", ".join(f"{name} {record['seconds']:.1f} s" for name, record in stages.items()))
    for key in ("as_delivered", "after_similarity", "surface_to_truth"):
        print(f"  {key:17s}" + "  ".join(f"{name} {value:.2f}" for name, value in accuracy[key].items()))
    print("  landmarks_mm     " + "  ".join(f"{name} {value:.1f}" for name, value in accuracy["landmarks_mm"].items()))
    return {"seconds": seconds, "peak_gb": peak, "accuracy": accuracy, "stages": {k: v["seconds"] for k, v in stages.items()}}


def extraction(cells: int) -> dict:
    """Narrow band against dense grid, the same network and code."""
    import torch
    from scipy.spatial import cKDTree

    from BreastReconstructionLib.shape_model.evaluation import CHUNK, Shape, signed_distances
    from BreastReconstructionLib.shape_model.model_file import load_model
    from BreastReconstructionLib.surface.extraction import dense_zero_level, extract_zero_level

    model = load_model()
    generator = torch.Generator().manual_seed(0)
    shape = Shape.of(model, model.code(0.7 * torch.randn(model.latent_basis.shape[1], generator=generator)))

    def published(points: np.ndarray) -> np.ndarray:
        """Every member at every point."""
        result = np.empty(len(points), np.float32)
        with torch.no_grad():
            for start in range(0, len(points), CHUNK):
                part = torch.as_tensor(points[start : start + CHUNK], dtype=torch.float32)
                result[start : start + CHUNK] = model.network.distances(part[None], shape.folded)[0].numpy()
        return result

    ours = []
    for _ in range(3):
        start = time.perf_counter()
        level = extract_zero_level(lambda points: signed_distances(shape, points), cells)
        ours.append(time.perf_counter() - start)
    start = time.perf_counter()
    dense, _ = dense_zero_level(published, cells)
    seconds = time.perf_counter() - start
    apart = max(cKDTree(dense).query(level.vertices_model)[0].max(), cKDTree(level.vertices_model).query(dense)[0].max())
    ratio, median = seconds / np.median(ours), float(np.median(ours))
    print(
        f"extraction at {cells}^3: dense {seconds:.1f} s, ours {median:.2f} s (median of 3), {ratio:.0f} times faster; "
        f"{level.evaluated} instead of {(cells + 1) ** 3} points; largest distance of the zero levels "
        f"{apart * model.mm_per_unit:.4f} mm"
    )
    return {"speedup": ratio, "dense_s": seconds, "ours_s": median, "apart_mm": float(apart * model.mm_per_unit)}


def videos(folder: Path) -> list[dict]:
    """Five further phantom videos."""
    rows = []
    print("seed  video                                             mean  median   RMS   95 %  after similarity  seconds")
    for seed, options in VIDEOS:
        video, case = folder / f"video{seed}", folder / f"case{seed}"
        code, _, text = command("phantom", "video", "--seed", seed, *options, "-o", video)
        if code == 0:
            marker = json.loads((video / "truth.json").read_text())["marker"]
            given = ["--landmarks", video / "picks.csv", "--marker", marker, "--truth", video]
            code, seconds, text = command("reconstruct", video / "video.mp4", *given, "-o", case)
        what = " ".join(options)
        if code != 0:
            print(f"{seed:4d}  {what:48s}  FAILED: {text.strip().splitlines()[-1]}")
            rows.append({"seed": seed, "options": what, "failed": text.strip().splitlines()[-1]})
            continue
        accuracy = json.loads((case / "accuracy.json").read_text())
        values = list(accuracy["as_delivered"].values())
        print(
            f"{seed:4d}  {what:48s}  "
            + "  ".join(f"{value:5.2f}" for value in values)
            + f"  {accuracy['after_similarity']['mean_mm']:16.2f}  {seconds:7.0f}"
        )
        rows.append({"seed": seed, "options": what, "seconds": seconds, **accuracy})
    return rows


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m Testing.Benchmarks", description=__doc__)
    parser.add_argument("--only", default="demo,extraction,videos", help="comma-separated parts")
    parser.add_argument("--cells", type=int, default=256, help="cells a side of the extraction's grid")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    parts, results = options.only.split(","), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "demo" in parts:
            results["demo"] = demo(folder)
        if "extraction" in parts:
            results["extraction"] = extraction(options.cells)
        if "videos" in parts:
            results["videos"] = videos(folder)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
