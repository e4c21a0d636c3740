"""The fit to tracks: a patient who breathes while the camera goes around, with exact cameras and exact sightings."""

import numpy as np
import pytest
import torch

from BreastReconstructionLib.fields.evaluation import Shape, distances_to_surface
from BreastReconstructionLib.geometry.cameras import triangulate
from BreastReconstructionLib.geometry.transforms import Similarity
from BreastReconstructionLib.mesh.mesh import vertex_normals
from BreastReconstructionLib.phantom.torso import sample_torso
from BreastReconstructionLib.shape_model.fit import FitSettings, fit_shape
from BreastReconstructionLib.shape_model.model_file import load_model
from BreastReconstructionLib.shape_model.track_fit import TrackSettings, refine_by_tracks, usable_tracks
from BreastReconstructionLib.shape_model.tracks import EXPANSION_DEPTH, TrackFit, Tracks
from Testing.cameras import on_arc

FRAMES, SIGHTINGS = 24, 5
SEED = 7101  # never trained on


def cameras_around(count):
    return [on_arc(degrees, (1080, 1920), 1400.0) for degrees in np.linspace(-80, 80, count)]


def moved(points, expansion):
    return points + np.column_stack([np.zeros(len(points)), np.zeros(len(points)), expansion * points[:, 2] / EXPANSION_DEPTH])


@pytest.fixture(scope="module")
def breathing():
    """Tracks of a torso whose front moves by ±2.4 mm; points as triangulation without motion gives them."""
    torso, _ = sample_torso(SEED)
    vertices = torso.to_model.apply(torso.vertices_ras)
    normals = torso.to_model.apply_directions(vertex_normals(torso.vertices_ras, torso.faces))
    cameras = cameras_around(FRAMES)
    expansion = 0.008 * np.sin(2 * np.pi * np.arange(FRAMES) / 9.0)
    rng = np.random.default_rng(0)
    frames, seen, points = [], [], []
    for reference, camera in enumerate(cameras):
        toward = camera.center_world - vertices
        facing = (toward * normals).sum(axis=1) > 0.4 * np.linalg.norm(toward, axis=1)
        skin = np.arange(len(vertices)) < torso.skin_vertex_count
        for vertex in rng.choice(np.flatnonzero(facing & skin), 250, replace=False):
            others = [k for k in range(reference - 2, reference + 3) if 0 <= k < FRAMES and k != reference]
            views = [reference, *others]
            here = np.concatenate([moved(vertices[vertex][None], expansion[k]) for k in views])
            pixels = np.array([cameras[k].project(point[None])[0][0] for k, point in zip(views, here, strict=True)])
            pixels += rng.normal(0, 0.2, pixels.shape)
            row = np.full((SIGHTINGS, 2), np.nan)
            row[: len(views)] = [cameras[k].normalized(pixel[None])[0] for k, pixel in zip(views, pixels, strict=True)]
            frames.append(views + [-1] * (SIGHTINGS - len(views)))
            seen.append(row)
            points.append(triangulate([cameras[k] for k in views], pixels))
    tracks = Tracks.of(cameras, np.array(frames), np.array(seen), np.array(points))
    landmarks = torso.to_model.apply(torso.landmarks_ras)
    return tracks, np.array(points), landmarks, vertices[: torso.skin_vertex_count], 1 / torso.to_model.scale, expansion


def error_mm(fit, model, exact, mm_per_unit):
    shape = Shape.of(model, torch.from_numpy(fit.code))
    return distances_to_surface(shape, fit.refinement.apply(exact)).mean() * mm_per_unit


def refined(before, tracks, landmarks, model):
    chosen = usable_tracks(before, tracks, model, TrackSettings())
    return refine_by_tracks(before, chosen, landmarks, model, FitSettings())


def test_breathing_is_found_and_no_longer_bends_the_shape(breathing):
    tracks, points, landmarks, exact, unit, expansion = breathing
    model = load_model()
    before = fit_shape(points, landmarks, model)
    result = refined(before, tracks, landmarks, model)
    front = exact[exact[:, 2] > 0]
    assert error_mm(result.fit, model, front, unit) < 0.8 * error_mm(before, model, front, unit)
    assert error_mm(result.fit, model, front, unit) < 0.8
    assert np.corrcoef(result.motion[:, 3], expansion)[0, 1] > 0.9
    assert result.tracks > 3000
    again = refined(before, tracks, landmarks, model)
    np.testing.assert_array_equal(again.fit.code, result.fit.code)


def test_too_few_tracks_leave_the_fit_as_it_is(breathing):
    tracks, points, landmarks, _, _, _ = breathing
    model = load_model()
    before = fit_shape(points, landmarks, model)
    result = refined(before, tracks.only(np.arange(100)), landmarks, model)
    assert result.tracks == 0
    assert result.fit is before


def test_the_similarity_of_the_first_fit_is_kept_in_play(breathing):
    """The aligned frame may be off: the same tracks, turned and moved, give the same shape."""
    tracks, points, landmarks, exact, unit, _ = breathing
    model = load_model()
    angle = 0.015
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    off = Similarity(1.0, turn, np.array([0.004, -0.003, 0.005]))
    cameras = [camera.moved(off) for camera in cameras_around(FRAMES)]
    there = Tracks.of(cameras, tracks.frames, tracks.seen, off.apply(points))
    before = fit_shape(off.apply(points), off.apply(landmarks), model)
    result = refined(before, there, off.apply(landmarks), model)
    front = exact[exact[:, 2] > 0]
    assert error_mm(result.fit, model, off.apply(front), unit) < 0.9


def test_between_the_frames_that_were_used_the_motion_is_interpolated():
    used, frames = np.array([0, 4, 8, 11]), 13
    slope = np.array([0.001, -0.002, 0.0, 0.003])
    found = TrackFit(None, used[:, None] * slope, 0, np.empty((0, 3)), np.empty(0))
    every = found.with_motion_between(used, frames)
    np.testing.assert_allclose(every.motion, np.minimum(np.arange(frames), 11)[:, None] * slope, atol=1e-15)
