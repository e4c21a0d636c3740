"""What several tests need and takes long to make, finished cases above all: made once a session, by one of its processes.

What is made is kept by the content of what it is made from. With BREAST_RECONSTRUCTION_CASES=FOLDER it is kept between
sessions, too; the library's own sources are part of the key.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock

from BreastReconstructionLib.capabilities.torso import TORSO
from BreastReconstructionLib.capabilities.torso.stages import REPORT
from BreastReconstructionLib.core.files import hash_of_file

# Names of the stages from video to report, in the order in which they run.
STAGES = tuple(stage.name for stage in TORSO.stages if stage in (*REPORT.before(), REPORT))
ROOT = Path(__file__).resolve().parent.parent


def shared_folder(temporary) -> Path:
    """Return the folder that all processes of this session share, given pytest's `tmp_path_factory`."""
    kept = os.environ.get("BREAST_RECONSTRUCTION_CASES")
    if kept:
        folder = Path(kept)
    else:
        base = temporary.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_once(folder: Path, name: str, parts: list, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` filled, now or before.

    Args:
        folder: see `shared_folder`.
        name: of the result, for people.
        parts: what it is made from: texts, and files or folders, which count by their content.
        make: fills an existing empty folder.
    """
    key = hashlib.sha256("\n".join([_sources(), *map(_content, parts)]).encode()).hexdigest()[:16]
    target = folder / f"{name}-{key}"
    with FileLock(folder / f"{name}-{key}.lock"):
        if not target.exists():
            partial = folder / f"{name}-{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(target)
    return target


def _content(part) -> str:
    if isinstance(part, Path) and part.is_dir():
        return "\n".join(hash_of_file(path) for path in sorted(part.rglob("*")) if path.is_file())
    return hash_of_file(part) if isinstance(part, Path) and part.is_file() else str(part)


@cache
def _sources() -> str:
    return "\n".join(hash_of_file(path) for path in sorted((ROOT / "BreastReconstructionLib").rglob("*.py")))


def small_pictures(sample: Path, folder: Path) -> None:
    """Write sixteen frontal pictures of half size of the sample video, and picks in three of them."""
    pictures = folder / "pictures"
    pictures.mkdir()
    truth = json.loads((sample / "truth.json").read_text())
    toward = [-np.array(camera["rotation"])[2] for camera in truth["cameras"]]
    azimuth = np.degrees([np.arctan2(-d[0], d[1]) for d in toward])
    wanted = np.linspace(-50, 50, 16)
    chosen = sorted({int(np.abs(azimuth - angle).argmin()) for angle in wanted})
    capture = cv2.VideoCapture(str(sample / "video.mp4"))
    index = 0
    while True:
        read, picture = capture.read()
        if not read:
            break
        if index in chosen:
            half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(pictures / f"picture{index:03d}.png"), half)
        index += 1
    capture.release()
    exact = [line.split(",") for line in (sample / "landmarks_in_frames.csv").read_text().splitlines()[1:]]
    middle = chosen[len(chosen) // 2]
    rows = ["landmark,video_frame,x_px,y_px"]
    for frame in (middle, chosen[len(chosen) // 2 - 3], chosen[len(chosen) // 2 + 3]):
        for number, name, x, y, visible in exact:
            if int(number) == frame and visible == "1":
                rows.append(f"{name},{chosen.index(frame)},{float(x) / 2:.2f},{float(y) / 2:.2f}")
    (folder / "picks.csv").write_text("\n".join(rows) + "\n")


# Of pictures of 540 x 960; a fifth of the time for the cameras.
SMALLER = ("--feature-pixels", 480, "--patch-rounds", 1, "--refine-cell", 5)


def small_arguments(small_input: tuple[Path, Path], command: str = "reconstruct") -> list:
    """Return the command line of a case of those pictures, without its folder."""
    pictures, picks = small_input
    scale = ["--approximate-scale"] if command in ("reconstruct", "scale", "surface", "report") else []
    return [command, pictures, "--landmarks", picks, *scale, "--frames", 16, "--strategy", "uniform", "--detail", 4, *SMALLER]


def forget_from(case: Path, stage: str) -> None:
    """Bring a finished case to where `stage` is next."""
    document = json.loads((case / "case.json").read_text())
    for name in STAGES[STAGES.index(stage) :]:
        document["stages"].pop(name, None)
        shutil.rmtree(case / name, ignore_errors=True)
    (case / "case.json").unlink()  # never through a hard link
    (case / "case.json").write_text(json.dumps(document))
