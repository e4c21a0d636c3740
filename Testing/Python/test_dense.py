import numpy as np
import pytest

from BreastReconstructionLib.sfm import dense
from BreastReconstructionLib.sfm.reconstruction import frames_apart
from Testing.cameras import facing_origin

pytestmark = pytest.mark.fast


def camera(center, name="a"):
    return facing_origin(name, center, [0.0, 0.0, 1.0], (1000, 1000), 1000.0)


def points_of(positions, long_axis, sigma_long=0.01, sigma_across=0.001):
    """Points whose covariance is long along one axis."""
    axis = np.asarray(long_axis, float)
    covariance = sigma_across**2 * np.eye(3) + (sigma_long**2 - sigma_across**2) * np.outer(axis, axis)
    count = len(positions)
    information = np.repeat(np.linalg.inv(covariance)[None], count, axis=0)
    return dense._Points(positions, np.zeros((count, 2)), information, float(count), count)


def test_two_directions_meet_where_their_rays_cross():
    """One frame is wrong by 8 mm along x, the other along y; together they are right."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(-0.5, 0.5, 0.02)] * 2), axis=-1).reshape(-1, 2)
    exact = np.column_stack([grid, np.zeros(len(grid))]) + 0.0105
    voxels = dense._Voxels(np.zeros(3), 1.0, 0.0201)
    for axis in ([1.0, 0, 0], [0, 1.0, 0]):
        for _ in range(2):
            wrong = exact + rng.normal(0, 0.002, len(exact))[:, None] * np.array(axis)
            voxels.add(points_of(wrong, axis), np.full((len(exact), 3), 100.0))
    cloud = voxels.cloud([camera([0, -2, 0.5]), camera([1, -2, 0.5], "b")])
    nearest = np.sqrt(((cloud.points_world[:, None] - exact[None]) ** 2).sum(axis=2)).min(axis=1)
    assert np.median(nearest) < 0.0005
    assert (cloud.counts >= dense.FEWEST_POINTS_A_VOXEL).all()
    assert (cloud.colors == 100).all()


def test_noise_along_the_normal_follows_the_covariance():
    grid = np.stack(np.meshgrid(*[np.arange(-0.5, 0.5, 0.02)] * 2), axis=-1).reshape(-1, 2)
    flat = np.column_stack([grid, np.zeros(len(grid))]) + 0.0105
    cameras = [camera([0, -0.5, 2]), camera([0.5, -0.5, 2], "b")]

    def noise(axis):
        voxels = dense._Voxels(np.zeros(3), 1.0, 0.0201)
        for _ in range(3):
            voxels.add(points_of(flat, axis), np.zeros((len(flat), 3)))
        return np.median(voxels.cloud(cameras).noise_world)

    assert noise([0, 0, 1.0]) == pytest.approx(10 * noise([1.0, 0, 0]), rel=0.05)


def test_memory_does_not_grow_with_the_number_of_frames():
    rng = np.random.default_rng(1)
    voxels = dense._Voxels(np.zeros(3), 1.0, 0.05)
    sizes = []
    for _ in range(12):
        voxels.add(points_of(rng.uniform(-0.5, 0.5, (20_000, 3)), [1.0, 0, 0]), np.zeros((20_000, 3)))
        sizes.append(voxels._sums.nbytes)
    assert sizes[-1] < 1.05 * sizes[1]
    assert voxels.points == 12 * 20_000


def test_shrunk_camera_sees_the_same_point():
    full = camera([0.2, -2, 0.3])
    half = full.shrunk(500)
    point = np.array([[0.1, 0.05, -0.2]])
    np.testing.assert_allclose(half.project(point)[0], full.project(point)[0] / 2)
    assert full.shrunk(4000).width == full.width


def test_references_are_saved_and_loaded(tmp_path):
    references = dense.References(("a.png", "b.png"), np.array([0], np.int16), np.zeros((1, 2)), np.ones((1, 3)))
    references.save(tmp_path)
    loaded = dense.References.load(tmp_path)
    assert loaded.names == references.names
    np.testing.assert_array_equal(loaded.frames, references.frames)


def around(step_degrees, count):
    """Cameras that go around the origin, a step a frame."""
    angles = np.radians(step_degrees * np.arange(count))
    names = [f"{i:03d}.png" for i in range(count)]
    return {name: camera([np.sin(angle), -np.cos(angle), 0.2], name) for name, angle in zip(names, angles, strict=True)}


def test_of_many_frames_those_that_are_too_near_are_passed_over():
    many = around(0.47, 300)
    chosen = frames_apart(many, np.zeros(3), dense.LEAST_STEP_DEGREES)
    assert chosen[0] == "000.png"
    assert set(np.diff([int(name[:3]) for name in chosen])) == {4}  # 1.9 degrees, a little less as seen from below


def test_frames_that_lie_apart_are_all_used_in_their_order():
    few = around(4.8, 30)
    assert frames_apart(dict(reversed(few.items())), np.zeros(3), dense.LEAST_STEP_DEGREES) == list(few)
