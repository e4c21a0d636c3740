"""Benchmarks of the shape model alone: fit and extraction against the published procedure, and how they grow."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import torch

from BreastReconstructionLib.fields.evaluation import (
    ROUGH_WEIGHT,
    Shape,
    distances_to_surface,
    signed_distances,
)
from BreastReconstructionLib.fields.field import Field
from BreastReconstructionLib.fields.network import NetworkSize, ShapeNetwork
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.extraction import (
    cells_for,
    dense_zero_level,
    extract_zero_level,
    follow_zero_level,
    project_to_zero_level,
)
from BreastReconstructionLib.shape_model.fit import fit_first_order, fit_shape
from BreastReconstructionLib.shape_model.model import ShapeModel
from BreastReconstructionLib.shape_model.model_file import load_model

from . import published
from .measure import Seconds, measured
from .phantom_clouds import FIRST_SEED, PhantomCloud

FIT_POINTS = 20_000
PREVIEW_MM = 6.0
# Standard deviations that a slider moves at once.
SLIDER_STEP = 0.25


def _timed(work: Callable) -> tuple[Seconds, object]:
    start = time.perf_counter()
    value = work()
    return Seconds(time.perf_counter() - start), value


def _published_fit(seed: int):
    model, cloud = load_model(), PhantomCloud.of(seed, FIT_POINTS)
    seconds, code = _timed(lambda: published.fit(cloud.points, cloud.landmarks, model))
    return seconds, cloud.error_mm(model, code)


def _our_fit(seed: int, first_order: bool):
    model, cloud = load_model(), PhantomCloud.of(seed, FIT_POINTS)
    seconds, fit = _timed(lambda: (fit_first_order if first_order else fit_shape)(cloud.points, cloud.landmarks, model))
    return seconds, cloud.error_mm(model, torch.from_numpy(fit.code), fit.refinement)


def fit(repeats: int) -> dict:
    """Published fit, ours, and ours by first order, on the same clouds; one cloud a repeat."""
    rows = {"published": [], "ours": [], "ours, first order": []}
    for seed in range(FIRST_SEED, FIRST_SEED + repeats):
        rows["published"].append(measured(_published_fit, seed))
        rows["ours"].append(measured(_our_fit, seed, False))
        rows["ours, first order"].append(measured(_our_fit, seed, True))
    figures = {name: _median(values) for name, values in rows.items()}
    speedup = float(np.median([p.seconds / o.seconds for p, o in zip(rows["published"], rows["ours"], strict=True)]))
    print(f"fit to {FIT_POINTS} noisy points (medians of {repeats} phantoms):")
    for name, values in figures.items():
        print(f"  {name:18s} {values['seconds']:7.2f} s  {values['peak_gb']:.2f} GB  mean error {values['error_mm']:.2f} mm")
    print(f"  ours is {speedup:.0f} times faster than published")
    return {"speedup": speedup, **figures}


def _median(values: list) -> dict:
    return {
        "seconds": float(np.median([v.seconds for v in values])),
        "peak_gb": float(np.median([v.peak_gb for v in values])),
        "error_mm": float(np.median([v.value for v in values])),
    }


def _some_shape(model: ShapeModel, seed: int = 0) -> Shape:
    generator = torch.Generator().manual_seed(seed)
    return Shape.of(model, model.code(0.7 * torch.randn(model.latent_basis.shape[1], generator=generator)))


def _published_field(model: ShapeModel, code: torch.Tensor) -> Field:
    distance = lambda points: published.dense_grid_distances(model, code, points)
    return dataclasses.replace(Shape.of(model, code).field(), distance=distance)


def _published_extraction(cells: int):
    model = load_model()
    code = _some_shape(model).code
    return _timed(lambda: dense_zero_level(_published_field(model, code), cells))


def _our_extraction(cells: int, device: str):
    model = load_model()
    shape = Shape.of(model.on(device), _some_shape(model).code)
    signed_distances(shape, np.zeros((1, 3)))  # a card's start does not count
    return _timed(lambda: extract_zero_level(shape.field(), cells))


def extraction(cells: int, repeats: int) -> dict:
    """The zero level of the same code: published dense grid against ours, and how far the two lie apart."""
    dense = measured(_published_extraction, cells)
    ours = [measured(_our_extraction, cells, "cpu") for _ in range(repeats)]
    seconds, level = float(np.median([o.seconds for o in ours])), ours[0].value
    vertices, faces = dense.value
    apart = max(
        closest_on_mesh(level.vertices, vertices, faces)[0].max(),
        closest_on_mesh(vertices, level.vertices, level.faces)[0].max(),
    )
    apart_mm = float(apart * load_model().mm_per_unit)
    speedup = dense.seconds / seconds
    print(
        f"extraction at {cells}^3: published {dense.seconds:.1f} s, {dense.peak_gb:.2f} GB; ours {seconds:.2f} s (median of "
        f"{repeats}), {ours[0].peak_gb:.2f} GB; {speedup:.0f} times faster; {level.evaluated} instead of {(cells + 1) ** 3} "
        f"points; the surfaces lie at most {apart_mm:.4f} mm apart"
    )
    cuda_s = None
    if torch.cuda.is_available():
        cuda_s = float(np.median([measured(_our_extraction, cells, "cuda").seconds for _ in range(repeats)]))
        print(f"  ours on CUDA: {cuda_s:.2f} s")
    return {
        "speedup": speedup,
        "cuda_s": cuda_s,
        "published_s": dense.seconds,
        "ours_s": seconds,
        "published_gb": dense.peak_gb,
        "ours_gb": ours[0].peak_gb,
        "apart_mm": apart_mm,
    }


def preview(repeats: int) -> dict:
    """A surface of 6 mm from a new code: anew, and followed from a slider's last place; the error at its vertices."""
    model = load_model()
    cells = cells_for(PREVIEW_MM / model.mm_per_unit)

    def anew(u: torch.Tensor):
        shape = Shape.of(model, model.code(u))
        return extract_zero_level(shape.field(ROUGH_WEIGHT), cells, guarded=False)

    def followed(level, u: torch.Tensor):
        shape = Shape.of(model, model.code(u))
        return follow_zero_level(level, shape.field(ROUGH_WEIGHT))[0]

    start = torch.zeros(model.latent_basis.shape[1])
    rows = {"anew": [], "followed": []}
    errors = {"anew": [], "followed": []}
    level = anew(start)
    for direction in range(repeats):
        u = start.clone()
        u[direction] = SLIDER_STEP
        for name, work in (("anew", lambda u=u: anew(u)), ("followed", lambda u=u: followed(level, u))):
            seconds, moved = _timed(work)
            rows[name].append(seconds)
            error = distances_to_surface(Shape.of(model, model.code(u)), moved.vertices).mean() * model.mm_per_unit
            errors[name].append(float(error))
    figures = {}
    for name in rows:
        figures[name] = {"seconds": float(np.median(rows[name])), "mean_error_mm": float(np.median(errors[name]))}
        print(
            f"preview of {PREVIEW_MM:.0f} mm, {name}: {figures[name]['seconds']:.2f} s (median of {repeats} directions), "
            f"{figures[name]['mean_error_mm']:.2f} mm mean error at its vertices"
        )
    return figures


def growth_in_points() -> dict:
    """Seconds of the fit against the number of points."""
    model, result = load_model(), {}
    for count in (1000, 10_000, 100_000, 1_000_000):
        cloud = PhantomCloud.of(FIRST_SEED, count)
        result[count] = float(_timed(lambda cloud=cloud: fit_shape(cloud.points, cloud.landmarks, model))[0])
        print(f"  fit to {count} points: {result[count]:.2f} s", flush=True)
    return result


def growth_in_cells(device: str, sizes: tuple[int, ...] = (64, 128, 256, 512, 1024)) -> dict:
    """Seconds of the extraction, projected onto the zero level, against the cells a side."""
    model, result = load_model(), {}
    shape = Shape.of(model.on(device), _some_shape(model).code)
    signed_distances(shape, np.zeros((1, 3)))  # a card's start does not count
    for cells in sizes:
        seconds, _ = _timed(lambda cells=cells: project_to_zero_level(extract_zero_level(shape.field(), cells), shape.field()))
        result[cells] = float(seconds)
        print(f"  surface at {cells}^3, {device}: {result[cells]:.2f} s", flush=True)
    return result


def growth_in_width(device: str, widths: tuple[int, ...] = (100, 200, 300, 400)) -> dict:
    """Seconds for 100,000 signed distances against the width of the members' layers; untrained networks."""
    model, result = load_model(), {}
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (100_000, 3))
    for width in widths:
        # A width must exceed the members' inputs, which the codes make up.
        size = NetworkSize(hidden=width, **({"global_latent": 48, "local_latent": 24} if width < 196 else {}))
        network = ShapeNetwork(size, model.network.mean_anchors).eval()
        mean = torch.zeros(size.latent)
        untrained = dataclasses.replace(model, network=network, latent_mean=mean, latent_basis=torch.eye(size.latent))
        shape = Shape.of(untrained.on(device), mean)
        signed_distances(shape, points[:5000])
        result[width] = float(_timed(lambda shape=shape: signed_distances(shape, points))[0])
        print(f"  100,000 distances at width {width}, {device}: {result[width]:.2f} s", flush=True)
    return result
