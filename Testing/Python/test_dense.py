import cv2
import numpy as np
import pytest

from BreastReconstructionLib.sfm import dense
from BreastReconstructionLib.sfm.flow import flow, skin_texture
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


# Light and shade ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def skin():
    """Faint skin, (480, 640, 3), evenly lit."""
    rng = np.random.default_rng(5)
    fine = cv2.GaussianBlur(rng.normal(0, 1, (480, 640)).astype(np.float32), (0, 0), 2.0)
    grey = 140 + 8 * fine / fine.std()
    return np.repeat(grey[..., None], 3, axis=2)


def lit(skin, way):
    """From one side, by a lamp that leaves a quarter of its light on the other."""
    light = np.linspace(0.25, 1.0, skin.shape[1])[::way]
    return np.clip(skin * light[None, :, None], 0, 255).astype(np.uint8)


def test_light_from_the_other_side_leaves_the_texture_as_it_is(skin):
    first, second = (skin_texture(lit(skin, way)).astype(float) for way in (1, -1))
    inside = (slice(40, -40), slice(40, -40))
    assert np.corrcoef(first[inside].ravel(), second[inside].ravel())[0, 1] > 0.9
    thirds = [first[40:-40, k * 200 + 40 : k * 200 + 200].std() for k in range(3)]
    assert max(thirds) < 1.2 * min(thirds)


def test_the_flow_follows_the_skin_and_not_the_shade(skin):
    """Skin moves by 5 pixels under a light that stays."""
    moved = np.roll(skin, 5, axis=1)
    found = flow(*(skin_texture(lit(picture, 1)) for picture in (skin, moved)))[60:-60, 60:-60]
    assert np.median(np.abs(found - [5.0, 0.0])) < 0.2
    assert np.quantile(np.linalg.norm(found - [5.0, 0.0], axis=2), 0.95) < 1.0


def test_outside_a_mask_there_is_no_texture(skin):
    mask = np.zeros((48, 64), bool)
    mask[:, :32] = True
    texture = skin_texture(lit(skin, 1), mask)
    assert (texture[:, 350:] == 128).all()
    assert texture[:, :290].std() > 10
