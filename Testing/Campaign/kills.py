"""Killed at random moments, with everything that it started, and run again: the same result, and at most one stage twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from BreastReconstructionLib.capabilities import STAGES
from BreastReconstructionLib.core.case import Case, read_case_file
from BreastReconstructionLib.core.resources import resource_path
from BreastReconstructionLib.mesh.files import read_mesh
from Testing.Benchmarks.video_parts import command
from Testing.cases import small_arguments

from .repeats import apart_mm
from .seeds import Base, seeds

# A run is killed so often before it may end.
KILLS_A_RUN = 10


@dataclass(frozen=True)
class Work:
    """Something long that may be killed.

    Attributes:
        name: for the table.
        prepare: fills the folder of a run.
        arguments: the command line, given that folder.
        result: the file that is compared.
    """

    name: str
    prepare: Callable[[Path, Base], None]
    arguments: Callable[[Path, Base], list]
    result: str


def _nothing(folder: Path, base: Base) -> None:
    folder.mkdir()


def _with_case(folder: Path, base: Base) -> None:
    shutil.copytree(base.case, folder / "case", copy_function=os.link)


def _with_data(folder: Path, base: Base) -> None:
    shutil.copytree(base.folder / "seeds" / "hdf5", folder / "data")
    config = folder / "data" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "steps": 300, "validate_every": 100}))


def _register(folder: Path, base: Base) -> list:
    volume = resource_path("SampleData", "phantom-ct", "volume.nrrd")
    return ["register", "--volume", volume, "-o", folder / "case"]


def _with_object(folder: Path, base: Base) -> None:
    pictures = base.folder / "object"
    if not pictures.exists():
        code, _, _, text = command("phantom", "object", "--seed", 11, "--pictures", 10, "--size", 128, "-o", pictures)
        if code != 0:
            raise RuntimeError(text)
    shutil.copytree(pictures, folder, copy_function=os.link)


def _object(folder: Path, base: Base) -> list:
    small = ["--steps", 300, "--rays", 384, "--neural-finest", 64, "--neural-table", 14, "--neural-levels", 6, "--cells", 96]
    return [
        "object",
        folder / "pictures",
        "--cameras",
        folder / "colmap",
        "--masks",
        folder / "masks",
        *small,
        "-o",
        folder / "case",
    ]


WORKS = (
    Work(
        "reconstruct",
        _nothing,
        lambda folder, base: [*small_arguments((base.pictures, base.picks)), "-o", folder / "case"],
        "case/surface.ply",
    ),
    Work("clinic", _with_case, _register, "case/register/distances.ply"),
    Work(
        "training",
        _with_data,
        lambda folder, base: ["train", "run", folder / "data" / "config.json"],
        "output/my-model.safetensors",
    ),
    Work(
        "draft of the sample",
        _nothing,
        lambda folder, base: ["demo", "--quality", "draft", "-o", folder / "case"],
        "case/surface.ply",
    ),
    Work("neural surface", _with_object, _object, "case/extract/neural.ply"),
)


def campaign(count: int, seed: int, folder: Path) -> list[dict]:
    """Kill each work so often; print and return one row a work.

    Args:
        count: of kills, over all works.
        seed: of the moments.
        folder: for the inputs and the runs.
    """
    base = seeds(folder)
    return [_killed(work, max(1, count // len(WORKS)), np.random.default_rng([seed, k]), base) for k, work in enumerate(WORKS)]


def _killed(work: Work, count: int, random: np.random.Generator, base: Base) -> dict:
    undisturbed, again = (base.folder / f"{work.name}-{word}" for word in ("undisturbed", "again"))
    seconds = _run(work, undisturbed, base)
    _run(work, again, base)
    scatter = _difference(again / work.result, undisturbed / work.result)
    kills, faults, worst = 0, [], 0.0
    while kills < count:
        folder = base.folder / f"{work.name}-killed"
        shutil.rmtree(folder, ignore_errors=True)
        work.prepare(folder, base)
        for _ in range(min(KILLS_A_RUN, count - kills)):
            before = _finished(folder)
            _kill(work, folder, base, random.uniform(0.0, seconds))
            kills += 1
            faults += _damage(folder, before)
        code, _, _, text = command(*work.arguments(folder, base))
        if code != 0:
            faults.append(f"not resumed: {text.strip().splitlines()[-1]}")
            continue
        worst = max(worst, _difference(folder / work.result, undisturbed / work.result))
    for fault in faults:
        print(f"  FAULT {work.name}: {fault}", flush=True)
    row = {"work": work.name, "kills": kills, "faults": len(faults), "difference": worst, "difference_undisturbed": scatter}
    print(f"  {row}", flush=True)
    return row


def _run(work: Work, folder: Path, base: Base) -> float:
    """Run it undisturbed; returns the seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    work.prepare(folder, base)
    code, seconds, _, text = command(*work.arguments(folder, base))
    if code != 0:
        raise RuntimeError(text)
    return seconds


def _kill(work: Work, folder: Path, base: Base, after_s: float) -> None:
    """Start it, and kill it with everything that it started."""
    words = [sys.executable, "-m", "BreastReconstructionLib", *map(str, work.arguments(folder, base))]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _finished(folder: Path) -> dict[str, str]:
    """When each stage that is recorded as done was finished."""
    if not (folder / "case").is_dir():
        return {}
    return {name: record["finished"] for name, record in read_case_file(folder / "case")["stages"].items()}


def _damage(folder: Path, before: dict[str, str]) -> list[str]:
    """What a kill broke: a stage that was done and is no more or was done again, and one that is recorded and cannot be read."""
    after = _finished(folder)
    faults = [f"{name} was lost or done again" for name, finished in before.items() if after.get(name) != finished]
    for stage in STAGES:
        if stage.name in after:
            try:
                Case(folder / "case").result(stage)
            except Exception as error:  # whatever it is, it is a fault, and the campaign goes on
                faults.append(f"{stage.name} is recorded and cannot be read: {error}")
    return faults


def _difference(one: Path, other: Path) -> float:
    """Mean distance of two surfaces, mm, or the largest difference of two networks' weights."""
    if one.suffix == ".ply":
        return float(apart_mm(read_mesh(one), read_mesh(other)).mean())
    from safetensors.numpy import load_file

    first, second = load_file(one), load_file(other)
    return max(float(np.abs(first[key].astype(float) - second[key].astype(float)).max()) for key in first)
