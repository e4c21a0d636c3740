"""Damaged inputs at the public doors: each must end in a result or in one sentence with an exit code, and harm nothing."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from BreastReconstructionLib.cli import main
from Testing.cases import small_arguments

from .mutations import mutate
from .seeds import Base, seeds

# Of the processor, and of memory; by the clock three times as long, since other programs may run.
LIMIT_S, LIMIT_GB = 60.0, 4.0
# A damaged stage is done again, with all that comes after it.
MADE_ANEW_S = 300.0
# A bomb is stopped here, so that the machine that looks on survives it.
STOPPED_AT_GB = 10.0
REFUSALS = range(2, 15)
STRIDE = 17
# The number of a trial that damages nothing.
SOUND = -1


@dataclass(frozen=True)
class Door:
    """A place where files of others come in.

    Attributes:
        name: for the table.
        inputs: folder or file of sound input, by its name among the seeds.
        arguments: the command line, given the folder of one trial (`input` and `case` in it).
        weight: how often it is tried.
        damaged: what may be damaged, as a pattern below the trial's folder.
        case: which of the base's cases.
        limit_s: seconds of the processor.
        sound_code: exit code with sound input, from what is not right about the rest.
    """

    name: str
    inputs: str
    arguments: Callable[[Path, Base], list]
    weight: int = 1
    damaged: str = "input/**/*"
    sound_code: int = 0
    case: str = "case"
    limit_s: float = LIMIT_S


@dataclass(frozen=True)
class Trial:
    """What came of one damaged input.

    Attributes:
        door: which.
        number: of the trial; with the campaign's seed it says everything.
        how: what was damaged, and how.
        fault: what went wrong; '' if nothing did.
        refused: it ended in a sentence, not in a result.
        seconds: of the processor.
        memory_gb: at most.
    """

    door: str
    number: int
    how: str
    fault: str
    refused: bool
    seconds: float
    memory_gb: float


def on_case(*words: str) -> Callable[[Path, Base], list]:
    """A command on the small case with a file of the trial: `words` may hold FILE and FOLDER."""

    def arguments(box: Path, base: Base) -> list:
        own = small_arguments((base.pictures, base.picks), words[0])
        named = {"FILE": _only_file, "FOLDER": lambda box: box / "input"}
        return [*own, *(named[word](box) if word in named else word for word in words[1:]), "-o", box / "case"]

    return arguments


def with_landmarks(box: Path, base: Base) -> list:
    """The stage of the landmarks with the trial's landmark file."""
    return [*small_arguments((base.pictures, _only_file(box)), "landmarks"), "-o", box / "case"]


def with_volume(box: Path, base: Base) -> list:
    """The skin of the trial's volume."""
    return ["skin", "--volume", _only_file(box), "-o", box / "case"]


def _only_file(box: Path) -> Path:
    """The file of the trial; of a model with its card, the model."""
    return sorted((box / "input").iterdir(), key=lambda path: path.suffix == ".json" and path.stem != "config")[0]


DOORS = (
    Door("video", "video", lambda box, base: ["frames", _only_file(box), "--frames", 8, "-o", box / "new"], 3),
    Door("pictures", "pictures", lambda box, base: ["frames", box / "input", "--frames", 8, "-o", box / "new"], 3),
    Door("landmarks, CSV of picks", "picks", with_landmarks, 2),
    Door("landmarks, CSV of places", "places", with_landmarks),
    Door("landmarks, Slicer", "markups", with_landmarks, 2),
    Door("landmarks, MeshLab", "meshlab", with_landmarks),
    Door("landmarks, PLY", "ply", with_landmarks, 2),
    Door("shape model", "model", lambda box, base: ["model", "info", _only_file(box)], 2),
    Door("landmark network", "network", on_case("proposal", "--landmark-network", "FILE")),
    Door("COLMAP, binary", "colmap", on_case("cameras", "--cameras", "FOLDER"), 3),
    Door("COLMAP, text", "colmap-text", on_case("cameras", "--cameras", "FOLDER"), 2),
    Door("VGGSfM predictions", "predictions", on_case("cameras", "--cameras", "FILE"), 2),
    Door("NIfTI", "nifti", with_volume, 2),
    Door("NRRD", "nrrd", with_volume),
    Door("DICOM series", "dicom", lambda box, base: ["skin", "--volume", box / "input", "-o", box / "case"], 2),
    Door(
        "radiograph", "radiograph", lambda box, base: ["xray", "reconstruct", "--picture", _only_file(box), "-o", box / "new"], 2
    ),
    Door("training data, HDF5", "hdf5", lambda box, base: ["train", "run", box / "input" / "config.json"], 2, "input/*.h5"),
    Door("scans", "scans", lambda box, base: ["train", "prepare", box / "input", "-o", box / "new.h5"], 3),
    Door(
        "segmentations", "labels", lambda box, base: ["organ", "prepare", box / "input", "--organ", "liver", "-o", box / "new.h5"]
    ),
    Door("list of a batch", "list", lambda box, base: ["batch", _only_file(box), "--row", 99], sound_code=2),
    Door("settings", "nothing", lambda box, base: ["run", box / "case", "--until", "frames"], 2, "case/settings.json"),
    Door("case file", "nothing", lambda box, base: ["inspect", box / "case"], 2, "case/case.json"),
    Door("files of stages, for the report", "nothing", on_case("report"), 5, "case/*/*", 0, "case-report", MADE_ANEW_S),
    Door("files of stages, for the fit", "nothing", on_case("fit"), 2, "case/*/*", 0, "case-fit", MADE_ANEW_S),
)


def campaign(count: int, seed: int, folder: Path, keep: Path | None = None) -> list[Trial]:
    """Try damaged inputs, so many in all, at all doors in turn; print each fault as it comes.

    Args:
        count: of trials.
        seed: of the damage.
        folder: for the sound inputs and the trials.
        keep: folder that gets the trials that went wrong.
    """
    order = [door for door in DOORS for _ in range(door.weight)]
    base = seeds(folder)
    _import_all()
    trials = []
    for door in DOORS:
        trial, code = try_once(door, SOUND, seed, base, folder / "sound", keep)
        if trial.fault or code != door.sound_code:
            raise RuntimeError(f"The door {door.name} refuses sound input (exit code {code}; {trial.fault}).")
    for number in range(count):
        # A stride that is prime to the number of doors visits all of them.
        door = order[number * STRIDE % len(order)]
        trial, _ = try_once(door, number, seed, base, folder / f"trial{number}", keep)
        trials.append(trial)
        if trial.fault:
            print(f"  FAULT {number} {trial.door}: {trial.how}: {trial.fault}", flush=True)
    return trials


def try_once(door: Door, number: int, seed: int, base: Base, box: Path, keep: Path | None = None) -> tuple[Trial, int]:
    """Damage the input of a door in one way, and see what the program makes of it; also returns the exit code."""
    shutil.rmtree(box, ignore_errors=True)
    shutil.copytree(base.folder / "seeds" / door.inputs, box / "input")
    shutil.copytree(base.folder / door.case, box / "case", copy_function=os.link)
    for name in ("tmp", "home"):
        (box / name).mkdir()
    how = "nothing" if number == SOUND else _damage(door, box, np.random.default_rng([seed, number]))
    before = _listing(box)
    code, seconds, memory_gb = _run(door.arguments(box, base), box, door.limit_s)
    text = (box / "stderr").read_text(errors="replace")
    fault = _fault(code, memory_gb, text) or _harm(box, before)
    if fault and keep is not None:
        shutil.copytree(box, keep / box.name, dirs_exist_ok=True)
    shutil.rmtree(box)
    return Trial(door.name, number, how, fault, code in REFUSALS, seconds, memory_gb), code


def _damage(door: Door, box: Path, random: np.random.Generator) -> str:
    """Damage one file of the door; returns which, and how."""
    files = [path for path in sorted(box.glob(door.damaged)) if path.is_file()]
    path = files[int(random.integers(len(files)))]
    return f"{path.relative_to(box)} {mutate(path, random)}"


def _listing(box: Path) -> dict[str, int]:
    """Sizes of what a run may not change."""
    paths = (path for path in box.rglob("*") if path.is_file())
    ours = ("case", "new", "new.h5", "work", "output", "stdout", "stderr")
    return {str(p.relative_to(box)): p.stat().st_size for p in paths if p.relative_to(box).parts[0] not in ours}


def _harm(box: Path, before: dict[str, int]) -> str:
    """What a run left where it should not."""
    if (after := _listing(box)) != before:
        return f"changed outside the case: {sorted(set(after.items()) ^ set(before.items()))[:3]}"
    # torch makes an empty folder for compiled code as its optimisers are imported.
    left = [path.name for path in (box / "tmp").iterdir() if not path.name.startswith("torchinductor") or list(path.iterdir())]
    if left:
        return f"left in the temporary folder: {left[:3]}"
    partial = [path.name for folder in ("case", "new") for path in (box / folder).rglob("*.partial")]
    return f"left half-written: {partial}" if partial else ""


def _fault(code: int, memory_gb: float, text: str) -> str:
    last = (text.strip().splitlines() or [""])[-1]
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "it did not end in time"
    if code < 0:
        return f"killed by signal {-code}: {last}"
    if memory_gb > LIMIT_GB:
        return f"{memory_gb:.1f} GB of memory"
    if code == 1:
        traces = [line.strip() for line in text.splitlines() if line.startswith("  File")]
        error = next((line for line in reversed(text.splitlines()) if line and not line.startswith(("Error:", " "))), "")
        return f"unexpected: {error[:200]} at {traces[-1] if traces else ''}"
    errors = [line for line in text.splitlines() if line.startswith("Error: ") or ": error: " in line]
    if "Traceback" in text or (code != 0 and len(errors) != 1):
        return f"not one sentence (exit code {code}): {last}"
    if code != 0 and code not in REFUSALS:
        return f"exit code {code}"
    return ""


def _import_all() -> None:
    """Import what the commands import, so that each trial only pays for its own work."""
    import cv2  # noqa: F401
    import h5py  # noqa: F401
    import pycolmap  # noqa: F401
    import SimpleITK  # noqa: F401
    import skimage.measure  # noqa: F401
    import torch  # noqa: F401
    import trimesh  # noqa: F401
    import vtkmodules.all  # noqa: F401


def _run(arguments: list, box: Path, limit_s: float) -> tuple[int, float, float]:
    """Run the command line in a process of its own; returns exit code (negative: signal), its seconds and peak memory in GB."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(box, [*map(str, arguments), "--verbose"], limit_s)
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        seconds = time.monotonic() - start
        if pid:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6
        if seconds > 3 * limit_s:
            os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            return -signal.SIGKILL, seconds, usage.ru_maxrss / 1e6
        time.sleep(0.01)


def _become(box: Path, arguments: list[str], limit_s: float) -> None:
    """In a forked process: run the command line, then end."""
    code = 1
    try:
        os.setsid()
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(box / name, os.O_CREAT | os.O_WRONLY), number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # a test's may be objects
        os.chdir(box)
        os.environ.update(TMPDIR=str(box / "tmp"), HOME=str(box / "home"))
        tempfile.tempdir = None
        limit = int(STOPPED_AT_GB * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s)))
        code = main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def summary(trials: list[Trial]) -> list[dict]:
    """One row a door."""
    rows = []
    for door in DOORS:
        own = [trial for trial in trials if trial.door == door.name]
        if own:
            rows.append(
                {
                    "door": door.name,
                    "trials": len(own),
                    "results": sum(not trial.refused and not trial.fault for trial in own),
                    "refused": sum(trial.refused and not trial.fault for trial in own),
                    "faults": sum(bool(trial.fault) for trial in own),
                    "longest_s": round(max(trial.seconds for trial in own), 1),
                    "most_gb": round(max(trial.memory_gb for trial in own), 2),
                }
            )
    return rows
