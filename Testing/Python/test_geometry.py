import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from BreastReconstructionLib.geometry.cameras import Camera, triangulate
from BreastReconstructionLib.geometry.transforms import MODEL_AXES_TO_RAS, Similarity, fit_similarity, model_to_patient

pytestmark = pytest.mark.fast


def similarity(seed):
    rng = np.random.default_rng(seed)
    return Similarity(float(rng.uniform(0.01, 100)), Rotation.random(None, rng).as_matrix(), rng.normal(size=3) * 10)


def camera(seed, distortion=(0.0, 0.0)):
    rng = np.random.default_rng(seed)
    rotation = Rotation.from_euler("xyz", rng.uniform(-0.3, 0.3, 3)).as_matrix()
    intrinsics = np.array([[1480, 0, 540], [0, 1470, 960], [0, 0, 1.0]])
    lens = np.array([*distortion, 0.001, -0.002, 0.0])
    return Camera("a.png", 1080, 1920, intrinsics, lens, rotation, np.array([0, 0, 4.0]) + rng.normal(size=3) * 0.2)


@given(st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_umeyama_recovers_any_similarity(seed):
    expected = similarity(seed)
    points = np.random.default_rng(seed + 1).normal(size=(6, 3))
    found = fit_similarity(points, expected.apply(points))
    assert found.scale == pytest.approx(expected.scale, rel=1e-9)
    np.testing.assert_allclose(found.rotation, expected.rotation, atol=1e-9)
    np.testing.assert_allclose(found.apply(points), expected.apply(points), rtol=1e-7, atol=1e-7)


def test_umeyama_never_mirrors():
    points = np.random.default_rng(0).normal(size=(6, 3))
    found = fit_similarity(points, points * [-1, 1, 1])
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)


def test_umeyama_refuses_a_line():
    line = np.outer(np.arange(5.0), [1, 2, 3])
    with pytest.raises(ValueError, match="line"):
        fit_similarity(line, line)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_similarities_compose_and_invert(first, second):
    a, b = similarity(first), similarity(second)
    points = np.random.default_rng(first).normal(size=(4, 3))
    np.testing.assert_allclose(a.after(b).apply(points), a.apply(b.apply(points)), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(a.inverse().apply(a.apply(points)), points, rtol=1e-7, atol=1e-7)


@given(st.integers(0, 1000), st.floats(-0.15, 0.15), st.floats(-0.05, 0.05))
@settings(max_examples=30, deadline=None)
def test_undistortion_inverts_distortion(seed, k1, k2):
    lens = camera(seed, (k1, k2))
    points = np.random.default_rng(seed).uniform([-1, -1.8, -0.5], [1, 1.8, 0.5], (40, 3))
    pixels, depth = lens.project(points)
    inside = (pixels > 0).all(axis=1) & (pixels < [1080, 1920]).all(axis=1)
    rays = lens.rays_world(pixels[inside])
    toward = points[inside] - lens.center_world
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    assert (depth > 0).all()
    np.testing.assert_allclose(rays, toward, atol=2e-5)


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_moved_camera_sees_the_same_pixels(seed):
    lens, move = camera(seed, (0.05, 0.0)), similarity(seed)
    points = np.random.default_rng(seed).normal(size=(10, 3)) * 0.5
    np.testing.assert_allclose(lens.moved(move).project(move.apply(points))[0], lens.project(points)[0], atol=1e-5)


def test_triangulation_of_exact_pixels():
    cameras = [camera(seed, (0.05, 0.01)) for seed in range(4)]
    point = np.array([0.2, -0.3, 0.1])
    pixels = np.array([c.project(point[None])[0][0] for c in cameras])
    np.testing.assert_allclose(triangulate(cameras, pixels), point, atol=1e-6)


def test_model_axes_become_ras_millimetres():
    # The patient's left is -R, superior is S, anterior is A.
    np.testing.assert_allclose(model_to_patient(290.0).apply(np.eye(3)), [[-290, 0, 0], [0, 0, 290], [0, 290, 0]])
    assert np.linalg.det(MODEL_AXES_TO_RAS) == pytest.approx(1.0)
