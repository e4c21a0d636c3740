"""Patches of pictures, registered: pictures drawn by tracing rays to the zero level, and a fit that is wrong by some mm."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.fields.evaluation import Shape, signed_distances
from BreastReconstructionLib.geometry.cameras import Camera
from BreastReconstructionLib.geometry.transforms import Similarity
from BreastReconstructionLib.shape_model.fit import FitSettings, fit_shape
from BreastReconstructionLib.shape_model.model_file import load_model
from BreastReconstructionLib.shape_model.picture_patches import (
    ANGLES_DEGREES,
    Pictures,
    fit_to_pictures,
    gray_picture,
    register_patches,
)
from BreastReconstructionLib.shape_model.tracks import Tracks
from Testing.cameras import on_arc

WIDTH, HEIGHT, FOCAL = 360, 480, 500.0
SHIFT = np.array([0.0, 0.0, 0.007])  # 2 mm toward the front


def march(shape: Shape, view: Camera, pixels: np.ndarray, length: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Go along the rays of (N, 2) pixels toward the zero level: (N,) lengths and the distances that are left."""
    rays, length, distance = view.rays_world(pixels), length.copy(), np.ones(len(pixels))
    for _ in range(steps):
        going = np.flatnonzero((length < 4.0) & (np.abs(distance) > 1e-4))
        distance[going] = signed_distances(shape, view.center_world + length[going, None] * rays[going])
        length[going] += np.clip(distance[going], -0.2, 0.2)  # far outside the model is no distance function
    return length, distance


def traced(shape: Shape, view: Camera, pixels: np.ndarray) -> np.ndarray:
    """(N, 3) points where the rays of all pixels meet the zero level; NaN where they miss it. Every third is traced first."""
    third = pixels.reshape(HEIGHT, WIDTH, 2)[1::3, 1::3].reshape(-1, 2)
    coarse, _ = march(shape, view, third, np.full(len(third), 2.0), 20)
    start = cv2.resize(coarse.reshape(HEIGHT // 3, WIDTH // 3), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).ravel()
    length, distance = march(shape, view, pixels, start, 4)
    return np.where((np.abs(distance) < 1e-3)[:, None], view.center_world + length[:, None] * view.rays_world(pixels), np.nan)


def skin(points: np.ndarray) -> np.ndarray:
    """Grey of points: waves of 8 to 30 mm in all directions."""
    rng = np.random.default_rng(5)
    waves = rng.normal(size=(60, 3))
    waves *= (2 * np.pi / rng.uniform(0.027, 0.1, 60) / np.linalg.norm(waves, axis=1))[:, None]
    return 128.0 + 5.0 * np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 60)).sum(axis=1)


@pytest.fixture(scope="module")
def filmed():
    """Nine pictures of the model's mean shape, six degrees apart, each darker than the last."""
    model = load_model()
    shape = Shape.of(model, model.latent_mean)
    cameras = [on_arc(degrees, (WIDTH, HEIGHT), FOCAL) for degrees in range(-24, 25, 6)]
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    pixels = np.column_stack([x.ravel(), y.ravel()])
    pictures, references = {}, []
    for i, view in enumerate(cameras):
        points = traced(shape, view, pixels)
        met = np.isfinite(points[:, 0])
        gray = np.where(met, skin(np.nan_to_num(points)), 40.0) - 4.0 * i
        pictures[view.name] = np.repeat(np.clip(gray, 0, 255).astype(np.uint8).reshape(HEIGHT, WIDTH, 1), 3, axis=2)
        chosen = np.random.default_rng(i).choice(np.flatnonzero(met), 150, replace=False)
        references.append((np.full(150, i), view.normalized(pixels[chosen]), points[chosen]))
    frames, normalized, points = (np.concatenate(part) for part in zip(*references, strict=True))
    return model, Pictures(cameras, pictures.__getitem__, HEIGHT), Tracks.of(cameras, frames, normalized, points), points


def fitted(model, filmed_points):
    landmarks = Shape.of(model, model.latent_mean).anchors_model
    return fit_shape(filmed_points, landmarks, model), landmarks


def registered(references, pictures, fit, model):
    grays = [gray_picture(pictures.read(camera.name), camera) for camera in pictures.cameras]
    return register_patches(references, pictures.cameras, grays, fit, model, Progress())


def test_patches_are_found_though_the_surface_is_wrong_by_2_mm(filmed):
    model, pictures, references, points = filmed
    exact = replace(fitted(model, points)[0], code=model.latent_mean.numpy(), refinement=Similarity(1.0, np.eye(3), np.zeros(3)))
    wrong = replace(exact, refinement=Similarity(1.0, np.eye(3), SHIFT))
    found = registered(references, pictures, wrong, model)
    assert len(found.depth) > 0.8 * len(references.depth)
    errors, guesses = [], []
    key = {tuple(row): k for k, row in enumerate(np.column_stack([references.frames[:, 0], references.seen[:, 0]]).tolist())}
    index = [key[tuple(row)] for row in np.column_stack([found.frames[:, 0], found.seen[:, 0]]).tolist()]
    for slot in range(1, found.frames.shape[1]):
        for j, view in enumerate(pictures.cameras):
            here = found.frames[:, slot] == j
            true = points[index][here]
            pixels = found.seen[here, slot] * FOCAL
            errors.append(np.linalg.norm(pixels - view.normalized(view.project(true)[0]) * FOCAL, axis=1))
            guesses.append(np.linalg.norm((view.project(true - SHIFT)[0] - view.project(true)[0]), axis=1))
    errors, guesses = np.concatenate(errors), np.concatenate(guesses)
    assert len(errors) > 3 * len(references.depth)
    assert np.median(errors) < 0.1
    assert np.median(errors) < 0.5 * np.median(guesses)


def test_neighbours_are_chosen_by_angle_not_by_number(filmed):
    model, pictures, references, points = filmed
    fit, _ = fitted(model, points)
    found = registered(references, pictures, fit, model)
    from_first = np.unique(found.frames[found.frames[:, 0] == 0, 1:])
    assert set(from_first) - {-1} == {1, 2, 3, 4, 6}
    assert max(ANGLES_DEGREES) == 36.0


def test_a_fit_to_blurred_points_is_mended_by_the_pictures(filmed):
    model, pictures, references, points = filmed
    bulged = points + 0.04 * np.clip(points[:, 2:], 0, None) * np.array([0.0, 0.0, 1.0])
    before, landmarks = fitted(model, bulged)
    refined = fit_to_pictures(before, references, pictures, landmarks, model, FitSettings(), 2, Progress())

    def error_mm(fit):
        shape = Shape.of(model, torch.from_numpy(fit.code))
        return float(np.abs(signed_distances(shape, fit.refinement.apply(points))).mean()) * model.mm_per_unit

    assert refined.tracks > 500
    assert error_mm(refined.fit) < 0.6 * error_mm(before)
    assert error_mm(refined.fit) < 0.4


def test_too_few_patches_leave_the_fit_as_it_is(filmed):
    model, pictures, references, points = filmed
    before, landmarks = fitted(model, points)
    refined = fit_to_pictures(before, references.only(np.arange(60)), pictures, landmarks, model, FitSettings(), 2, Progress())
    assert refined.tracks == 0
    assert refined.fit is before


def test_frames_that_see_nothing_of_the_surface_find_nothing(filmed):
    model, pictures, references, points = filmed
    fit, _ = fitted(model, points)
    turn = np.diag([-1.0, 1.0, -1.0])
    away = [replace(view, rotation=turn @ view.rotation, translation=turn @ view.translation) for view in pictures.cameras]
    found = registered(references, replace(pictures, cameras=away), fit, model)
    assert len(found.depth) == 0
