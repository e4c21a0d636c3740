"""What the stages take from outside the case, by its content; and what is looked at before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.case import Case
from ...core.errors import CaseError, LandmarkError, VolumeError
from ...core.files import hash_of_file, hash_of_files
from ...core.settings import Settings
from ...landmarks.curves import read_closed_curves, read_points
from ..torso.stages import SURFACE
from .stages import COMPARE, MEASURE, REGISTER, SCAN_WALL, SKIN


def check_skin(settings: Settings) -> None:
    """See that there is a volume."""
    volume = settings.of(SKIN).volume
    if volume is None:
        raise VolumeError("No CT or MRI is given; choose the volume (--volume).")
    if not volume.exists():
        raise VolumeError(f"The volume {volume.name} does not exist; check the path.")


def sources_of_skin(settings: Settings, case: Case) -> dict:
    """The volume."""
    volume = settings.of(SKIN).volume
    if volume is None:
        return {}
    if volume.is_dir():
        return {"volume": hash_of_files(tuple(sorted(path for path in volume.iterdir() if path.is_file())))}
    return {"volume": hash_of_file(volume)}


def check_register(settings: Settings) -> None:
    """See that the points on the volume can be read."""
    options = settings.of(REGISTER)
    if options.scan_landmarks is not None:
        _read(options.scan_landmarks, read_points)
    if options.region_curve is not None:
        _read(options.region_curve, read_closed_curves)


def sources_of_register(settings: Settings, case: Case) -> dict:
    """The points on the volume, and the curve around what decides."""
    options = settings.of(REGISTER)
    return _hashed(scan_landmarks=options.scan_landmarks, region_curve=options.region_curve)


def check_measure(settings: Settings) -> None:
    """See that points and boundaries can be read."""
    options = settings.of(MEASURE)
    if options.measure_points is not None:
        _read(options.measure_points, read_points)
    if options.breast_boundaries is not None:
        _read(options.breast_boundaries, read_closed_curves)


def sources_of_measure(settings: Settings, case: Case) -> dict:
    """Points and boundaries."""
    options = settings.of(MEASURE)
    return _hashed(measure_points=options.measure_points, breast_boundaries=options.breast_boundaries)


def sources_of_scan_wall(settings: Settings, case: Case) -> dict:
    """The segment."""
    return _hashed(chest_wall=settings.of(SCAN_WALL).chest_wall)


def check_compare(settings: Settings) -> None:
    """See that the earlier visit has a surface."""
    earlier = settings.of(COMPARE).earlier
    if earlier is None:
        raise CaseError("No earlier visit is given; choose its case folder (--earlier).")
    if not earlier.is_dir():
        raise CaseError(f"The case folder {earlier.name} of the earlier visit is not there; was it moved or renamed?")
    Case(earlier).recorded_key(SURFACE)


def sources_of_compare(settings: Settings, case: Case) -> dict:
    """The earlier surface; its check says so if it is gone."""
    earlier = settings.of(COMPARE).earlier
    if earlier is None or not (earlier.is_dir() and SURFACE.name in Case(earlier).stages):
        return {}
    return {"earlier": Case(earlier).recorded_key(SURFACE)}


def _read(path: Path, read: Callable[[Path], Any]) -> None:
    if not path.is_file():
        raise LandmarkError(f"The file {path.name} does not exist; check the path.")
    read(path)


def _hashed(**paths: Path | None) -> dict:
    return {name: hash_of_file(path) for name, path in paths.items() if path is not None}
