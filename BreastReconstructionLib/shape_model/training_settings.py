"""What decides a training run, and the file that says it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

from ..core.errors import ShapeModelError
from ..fields.network import VARIANTS


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a training run; the keys of `train run`'s JSON, and written to the model card.

    Attributes:
        name: of the model.
        variant: 'local' (a blend, liRBSM), 'global' (one function, iRBSM), 'small' (one function for organs, trains on a
            processor) or 'large' (as the lung model LPM; for graphics cards).
        population, licence: for the card: whose shapes these are, and on what terms the model may be used.
        steps: optimisation steps at most.
        batch_subjects: a step, over all processes.
        batch_points: a subject.
        learning_rate, code_learning_rate: at the start; they fall by a cosine to a hundredth.
        clamp: model units beyond which exact distances no longer matter.
        code_weight, anchor_weight: of subjects with exact distances; scans have the published weights.
        surface_weight, eikonal_weight, normal_weight: of further terms at surface points of subjects with exact distances: mean
            |f|, | |gradient| - 1 |, and the gradient's distance to the normal. 0 leaves a term out.
        validate_every: steps between fits of subjects that are not trained on.
        patience: how many validations without a better one end the run.
        mixed_precision: the hidden layers' products in bfloat16; three times faster for `global` on processors that have it.
        seed: of network, batches and split.
    """

    name: str = "my-model"
    variant: str = "local"
    population: str = "not stated"
    licence: str = "not stated"
    steps: int = 20_000
    batch_subjects: int = 32
    batch_points: int = 192
    learning_rate: float = 1e-3
    code_learning_rate: float = 1e-3
    clamp: float = 0.1
    code_weight: float = 1e-4
    anchor_weight: float = 0.5
    surface_weight: float = 0.0
    eikonal_weight: float = 0.0
    normal_weight: float = 0.0
    validate_every: int = 2000
    patience: int = 4
    mixed_precision: bool = False
    seed: int = 0


@dataclass(frozen=True)
class TrainingConfig:
    """Settings with the files that they are for.

    Attributes:
        data: HDF5 files to train on.
        validation: HDF5 file, or None: a twentieth of the data, at least one subject.
        work: folder of checkpoint and TensorBoard's records.
        output: folder of the model.
    """

    data: tuple[Path, ...]
    work: Path
    output: Path
    validation: Path | None
    settings: TrainingSettings


def read_config(path: Path) -> TrainingConfig:
    """Read a JSON file: `data`, `work`, `output`, optionally `validation`, and any of TrainingSettings; paths beside the file.

    Raises:
        ShapeModelError: unreadable, or a key or value that training does not know.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ShapeModelError(f"{path.name} cannot be read as a JSON file; check path and commas.") from error
    known = {f.name: type(f.default) for f in fields(TrainingSettings)}
    files = {"data", "work", "output", "validation"}
    if not isinstance(values, dict) or not {"data", "work", "output"} <= set(values):
        raise ShapeModelError(f"{path.name} must give data (a list of .h5 files), work and output.")
    if unknown := sorted(set(values) - files - set(known)):
        raise ShapeModelError(f"{path.name} gives {unknown[0]}, which training does not know; it knows {', '.join(known)}.")
    for key in set(values) & set(known):
        kinds = (int, float) if known[key] is float else known[key]
        wrong = not isinstance(values[key], kinds) or (isinstance(values[key], bool) and known[key] is not bool)
        lowest = 0 if key == "seed" or key.endswith("_weight") else 1 if known[key] is int else 1e-12
        if wrong or (known[key] in (int, float) and not lowest <= values[key] < math.inf):
            kind = {int: "a whole number above 0", float: "a number above 0", bool: "true or false", str: "a text"}[known[key]]
            raise ShapeModelError(f"{key} in {path.name} must be {kind}, not {json.dumps(values[key])}.")
    settings = TrainingSettings(**{key: values[key] for key in set(values) & set(known)})
    if settings.variant not in VARIANTS:
        raise ShapeModelError(f"variant in {path.name} must be one of {', '.join(VARIANTS)}, not {settings.variant}.")
    data = [values["data"]] if isinstance(values["data"], str) else values["data"]
    beside = path.resolve().parent
    validation = beside / values["validation"] if values.get("validation") else None
    return TrainingConfig(
        tuple(beside / d for d in data), beside / values["work"], beside / values["output"], validation, settings
    )
