"""What is said of a patient who moved while being filmed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ...core.files import write_json

LARGE_MOTION_MM = 5.0
_FILE = "motion.json"


def largest_motion(motion: np.ndarray) -> float:
    """Largest displacement of the chest's front from its mean place, model units, for (F, MOTIONS) motions."""
    from ...shape_model.tracks import chest_motion

    chest = chest_motion(motion)
    return float(np.linalg.norm(chest - chest.mean(axis=0), axis=1).max())


def motion_warning(largest_mm: float) -> str:
    """Return what to say of a patient who moved by so much, '' if it is little."""
    if largest_mm <= LARGE_MOTION_MM:
        return ""
    return (
        f"The patient moved by up to {largest_mm:.0f} mm while being filmed; this is allowed for, but film again with the breath "
        "held if it matters."
    )


def write_motion(folder: Path, largest_mm: float) -> None:
    """Write the largest motion beside the fit, where it can be read without the fit's packages."""
    write_json(folder / _FILE, {"largest_mm": largest_mm, "warning": motion_warning(largest_mm)})


def read_motion_warning(folder: Path) -> str:
    """Read what a fit's folder says of the patient's motion, '' if nothing."""
    path = folder / _FILE
    return json.loads(path.read_text())["warning"] if path.exists() else ""
