"""The surface before and after the refinement by the pictures: at details that no shape model knows, and elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from BreastReconstructionLib.measurement.regions import DETAILS

from .neural import neural
from .outside import checked
from .video_parts import VIDEOS, stages_of

DETAILED_SEEDS = (9602, 9603, 9604)
FRAMES = 70
# What the gain is summed over; stretch marks and ripples are lower than the error of a surface without them.
GAINING = ("scars", "folds", "moles")


def refinement(folder: Path) -> dict:
    """Print the tables; see docs/accuracy.md."""
    print(f"{'':14s}{'':>9s}" + "".join(f"{kind:>15s}" for kind in ("elsewhere", *DETAILS)))
    detailed = [
        before_and_after(folder, f"details-{seed}", seed, ["--details", *DETAILS, "--frames", FRAMES]) for seed in DETAILED_SEEDS
    ]
    plain = [before_and_after(folder, f"video{seed}", seed, options) for seed, options in VIDEOS]
    of = lambda when, kinds: np.array([np.mean([row[when]["details_mm"][kind] for kind in kinds]) for row in detailed])
    gain = lambda kinds: float(100 * (1 - of("after", kinds).sum() / of("before", kinds).sum()))
    means = {when: [row[when]["as_delivered"]["mean_mm"] for row in plain] for when in ("before", "after")}
    result = {
        "details_gain_percent": gain(GAINING),
        "nipples_gain_percent": gain(("nipples",)),
        "elsewhere_change_mm": float((of("after", ("elsewhere",)) - of("before", ("elsewhere",))).mean()),
        "videos_before_mm": means["before"],
        "videos_after_mm": means["after"],
        "seconds": float(np.mean([row["seconds"] for row in (*detailed, *plain)])),
        "detailed": detailed,
        "neural": neural(folder),
    }
    print(
        f"scars, folds, moles: {result['details_gain_percent']:.0f} % less; nipples {result['nipples_gain_percent']:.0f} % less; "
        f"elsewhere {result['elsewhere_change_mm']:+.3f} mm; {result['seconds']:.0f} s"
    )
    return result


def before_and_after(folder: Path, name: str, seed: int, options: list) -> dict:
    """Film a phantom unless it lies in the folder; reconstruct it, without the refinement and then with it."""
    film, case = folder / name, folder / f"case-{name}"
    if not (film / "truth.json").exists():
        checked("phantom", "video", "--seed", seed, *options, "-o", film)
    marker = json.loads((film / "truth.json").read_text())["marker"]
    given = ["--landmarks", film / "picks.csv", "--marker", marker, "--truth", film, "-o", case]
    row: dict = {}
    for when, switch in (("before", "--no-refine"), ("after", "--refine")):
        checked("reconstruct", film / "video.mp4", *given, switch)
        accuracy = json.loads((case / "accuracy.json").read_text())
        row[when] = {key: accuracy[key] for key in ("as_delivered", "details_mm") if key in accuracy}
        details = accuracy.get("details_mm", {"elsewhere": accuracy["as_delivered"]["mean_mm"]})
        print(f"{name:14s}{when:>9s}" + "".join(f"{details[k]:12.2f} mm" for k in details), flush=True)
    row["seconds"] = stages_of(case)["refine"]
    return row
