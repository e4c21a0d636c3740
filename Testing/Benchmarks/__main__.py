"""python -m Testing.Benchmarks [--only fit,extraction,…] [--json F] [--plot F] [--profile]: the figures that the README states.

- fit: ours against the published procedure on the same clouds: time, memory, error.
- extraction: our surface against the published dense grid of the same code: time, memory, how far they lie apart.
- preview: a rough surface from a code, as a slider needs it.
- demo, draft: the bundled sample through the command line: stages, time, peak memory, error; beside the version before.
- busy: the sample in draft beside four programs that never rest: time and CPU time against alone.
- landmarks: what is proposed on unseen bodies against the truth, and the sample's surface by proposed landmarks.
- turning: videos of patients who turn before a phone on a tripod.
- videos: five further phantom videos (other bodies, skins, rooms, paths, lenses): a table.
- outside: bodies and clutter that no training and no tuning saw: errors, landmarks, and the stated uncertainty.
- clinic: skin of CT and MRI, registration, geodesics, volumes against twins, change between visits.
- organ: a model of synthetic lungs: training, completion from points, halves and noise, volumes of label volumes.
- xray: femurs from radiographs, by fit, by network and by the mean shape; rib cages by two kernels.
- refinement: before and after the refinement by the pictures, on phantoms with scars, folds, moles and other nipples.
- points: what weights by covariance and the fit to the pictures bring, on the sample and on the videos in the folder.
- mapping: resolution of the features, incremental against global mapping: time and error of the cameras.
- growth: cost against points, frames, cells and width of the network, the last two on CUDA as well; --plot draws it.

Only figures of one run are comparable; run nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

PARTS = (
    "fit",
    "extraction",
    "preview",
    "demo",
    "draft",
    "busy",
    "landmarks",
    "turning",
    "videos",
    "outside",
    "clinic",
    "organ",
    "xray",
    "refinement",
    "points",
    "mapping",
    "growth",
)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m Testing.Benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated parts")
    parser.add_argument("--cells", type=int, default=256, help="cells a side of the extraction's grid (default 256)")
    parser.add_argument("--repeats", type=int, default=3, help="of fit, extraction and preview (default 3)")
    parser.add_argument("--folder", type=Path, help="keep videos and cases here and use those that are there")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--plot", type=Path, help="PNG for the growth plot (needs matplotlib)")
    parser.add_argument("--profile", action="store_true", help="name the hottest lines of the sample instead")
    options = parser.parse_args()
    parts = options.only.split(",")
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown parts: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.plot and "growth" not in parts:
        parser.error("--plot needs the part growth")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        results = run_profile() if options.profile else run_parts(parts, options, folder)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if options.plot:
        from .plot import plot_growth

        plot_growth(results["growth"], options.plot)


def run_profile() -> dict:
    """The hottest lines, at both qualities."""
    from .profiling import profile

    return {"profile": {quality: profile(quality) for quality in ("draft", "normal")}}


def run_parts(parts: list[str], options: argparse.Namespace, folder: Path) -> dict:
    """Run the parts in the order of PARTS."""
    import torch

    from . import model_parts, video_parts
    from .clinic import clinic
    from .landmarks import landmarks, turning
    from .organ import organ
    from .outside import outside
    from .plot import exponent
    from .refinement import refinement
    from .xray import xray

    device = "CUDA " + torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA"
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}", flush=True)

    def growth() -> dict:
        print("growth:")
        result = {
            "points": model_parts.growth_in_points(),
            "cells": model_parts.growth_in_cells("cpu"),
            "width": model_parts.growth_in_width("cpu"),
            "frames": video_parts.growth_in_frames(folder),
        }
        if torch.cuda.is_available():
            result["cuda"] = {"cells": model_parts.growth_in_cells("cuda"), "width": model_parts.growth_in_width("cuda")}
        seconds = {count: values["seconds"] for count, values in result["frames"].items()}
        result["exponents"] = {
            "points": exponent(result["points"]),
            "cells": exponent(result["cells"]),
            "width": exponent(result["width"]),
            "frames": exponent(seconds),
        }
        print("  exponents at the largest sizes: " + ", ".join(f"{k} {v:.2f}" for k, v in result["exponents"].items()))
        return result

    work = {
        "fit": lambda: model_parts.fit(options.repeats),
        "extraction": lambda: model_parts.extraction(options.cells, options.repeats),
        "preview": lambda: model_parts.preview(options.repeats),
        "demo": lambda: video_parts.demo(folder, "normal"),
        "draft": lambda: video_parts.demo(folder, "draft"),
        "busy": lambda: video_parts.busy(folder),
        "landmarks": lambda: landmarks(folder),
        "turning": lambda: turning(folder),
        "videos": lambda: video_parts.videos(folder),
        "outside": lambda: outside(folder),
        "clinic": lambda: clinic(folder),
        "organ": lambda: organ(folder),
        "xray": lambda: xray(folder),
        "refinement": lambda: refinement(folder),
        "points": lambda: video_parts.points(folder),
        "mapping": lambda: video_parts.mapping(folder),
        "growth": growth,
    }
    return {part: work[part]() for part in PARTS if part in parts}


if __name__ == "__main__":
    main()
