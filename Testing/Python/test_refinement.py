"""A surface moved until the pictures agree, on a relief whose pictures are exact; and phantoms with details."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from BreastReconstructionLib.capabilities.torso.results import Refinement
from BreastReconstructionLib.core.errors import FitError
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.geometry.cameras import Camera
from BreastReconstructionLib.geometry.transforms import Frame
from BreastReconstructionLib.measurement.regions import DETAILS
from BreastReconstructionLib.mesh.distance import closest_on_mesh
from BreastReconstructionLib.mesh.mesh import TriangleMesh, vertex_normals
from BreastReconstructionLib.phantom.details import details_on, with_details
from BreastReconstructionLib.phantom.texture import value_noise
from BreastReconstructionLib.phantom.torso import sample_torso
from BreastReconstructionLib.shape_model.frame_comparison import MovedFrame, PhotometricSettings
from BreastReconstructionLib.shape_model.photometric import find_displacement

pytestmark = pytest.mark.fast
SIZE_PX, FOCAL_PX, DISTANCE_MM = 260, 640.0, 400.0


def bump(x, y):
    return 3.0 * np.exp(-(x**2 + y**2) / 50.0)


def flat(x, y):
    return np.zeros_like(x)


def camera_at(degrees_right, degrees_up):
    turn = Rotation.from_euler("yx", [degrees_right, degrees_up], degrees=True).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    intrinsics = np.array([[FOCAL_PX, 0, SIZE_PX / 2], [0, FOCAL_PX, SIZE_PX / 2], [0, 0, 1.0]])
    return Camera("", SIZE_PX, SIZE_PX, intrinsics, np.zeros(5), turn, np.array([0.0, 0.0, DISTANCE_MM]))


def picture_of(camera, height, exposure=1.0, noise=0.0):
    """The relief z = height(x, y), painted by what lies there, as a camera sees it: rays, met by fixed point."""
    pixels = np.stack(np.meshgrid(np.arange(SIZE_PX), np.arange(SIZE_PX)), axis=2).reshape(-1, 2) + 0.5
    rays, start = camera.rays_world(pixels), camera.center_world
    z = np.zeros(len(rays))
    for _ in range(12):
        place = start + ((z - start[2]) / rays[:, 2])[:, None] * rays
        z = height(place[:, 0], place[:, 1])
    at = np.column_stack([place[:, :2], np.zeros(len(place))])
    paint = np.random.default_rng(3)
    shade = sum(amplitude * value_noise(at, wavelength, paint) for wavelength, amplitude in ((4.0, 0.12), (9.0, 0.08)))
    gray = 130.0 * exposure * (1.0 + shade) + np.random.default_rng(int(1e4 * exposure)).normal(0, noise, len(at))
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8).reshape(SIZE_PX, SIZE_PX, 1), 3, axis=2)


def frames_of(height, views, exposures=None, moved=0.0):
    """Frames; in every second one the patient stood `moved` mm to the side, and so did the relief."""
    found = []
    for number, view in enumerate(views):
        aside = np.array([moved * (number % 2), 0.0, 0.0])
        camera = camera_at(*view)
        shifted = lambda x, y, aside=aside: height(x - aside[0], y)
        exposure = 1.0 if exposures is None else exposures[number]
        picture = picture_of(camera, shifted if moved else height, exposure, noise=1.0)
        everywhere = lambda picture: np.ones(picture.shape[:2], bool)
        found.append(MovedFrame(camera, lambda picture=picture: picture, lambda points, aside=aside: points + aside, everywhere))
    return found


VIEWS = [(x, y) for x in (-35, -18, 0, 18, 35) for y in (-12, 12)]


@pytest.fixture(scope="module")
def plane():
    side = np.arange(-48.0, 48.1, 1.5)
    x, y = np.meshgrid(side, side)
    index = np.arange(x.size).reshape(x.shape)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    faces = np.concatenate([np.column_stack([a, b, c]), np.column_stack([a, c, d])])
    vertices = np.column_stack([x.ravel(), y.ravel(), np.zeros(x.size)])
    return TriangleMesh(vertices, faces, Frame.MODEL, np.tile([0.0, 0.0, 1.0], (len(vertices), 1)))


def judged(plane, found, height):
    """Errors in the bump and outside it, within the part that the frames see well."""
    error = found.displacement_mm - height(*found.vertices[:, :2].T)
    radius = np.linalg.norm(found.vertices[:, :2], axis=1)
    return np.abs(error[radius < 8]).mean(), np.abs(error[(radius > 16) & (radius < 38)])


def test_a_bump_is_found_and_the_rest_stays(plane):
    found = find_displacement(plane, frames_of(bump, VIEWS), PhotometricSettings(), Progress())
    inside, outside = judged(plane, found, bump)
    assert inside < 0.45, "of 1.6 mm on average"
    assert np.median(outside) < 0.1
    radius = np.linalg.norm(found.vertices[:, :2], axis=1)
    assert found.weakened[radius < 4].min() > 0.5
    assert np.median(found.weakened[radius > 20]) == 0.0


def test_without_a_bump_nothing_gives_way(plane):
    found = find_displacement(plane, frames_of(flat, VIEWS), PhotometricSettings(), Progress())
    _, outside = judged(plane, found, flat)
    assert outside.max() < 0.3
    assert (found.weakened > 0.5).mean() < 0.01


def test_a_lamp_that_flickers_changes_nothing(plane):
    exposures = np.linspace(0.6, 1.4, len(VIEWS))[np.random.default_rng(0).permutation(len(VIEWS))]
    found = find_displacement(plane, frames_of(bump, VIEWS, exposures), PhotometricSettings(), Progress())
    inside, outside = judged(plane, found, bump)
    assert inside < 0.45
    assert np.median(outside) < 0.15


def test_what_passes_before_the_skin_is_left_out(plane):
    """A sleeve covers a corner in half of the frames: with its place known nothing moves there."""

    def sleeved(frame):
        def read():
            picture = frame.read().copy()
            picture[:110, :110] = 30
            return picture

        return replace(frame, read=read, is_skin=lambda picture: picture[..., 0] > 60)

    frames = [sleeved(frame) if number % 2 else frame for number, frame in enumerate(frames_of(flat, VIEWS))]
    found = find_displacement(plane, frames, PhotometricSettings(), Progress())
    _, outside = judged(plane, found, flat)
    assert outside.max() < 0.35


def test_places_that_two_frames_see_stay(plane):
    """A third one looks at one half only."""

    def half(frame):
        return replace(
            frame, is_skin=lambda picture: np.arange(picture.shape[1])[None] * np.ones((len(picture), 1)) > SIZE_PX / 2
        )

    frames = frames_of(bump, VIEWS[:3])
    found = find_displacement(plane, [*frames[:2], half(frames[2])], PhotometricSettings(), Progress())
    two = found.views == 2
    assert 0.2 < two.mean() < 0.8
    edge = np.abs(found.vertices[two][:, None] - found.vertices[~two & (found.views == 3)]).max(axis=2).min(axis=1)
    assert np.abs(found.displacement_mm[two][edge > 20]).max() < 0.1


def test_pictures_without_a_solution_are_told(plane):
    with pytest.raises(FitError, match="No place of the skin is seen well by 3 frames"):
        find_displacement(plane, frames_of(bump, VIEWS[:2]), PhotometricSettings(), Progress())


def test_a_refinement_fades_out_beyond_what_was_compared(tmp_path):
    rng = np.random.default_rng(1)
    vertices = rng.uniform(-0.1, 0.1, (500, 3)) * [1.0, 1.0, 0.0]
    given = Refinement(vertices, np.full(500, 0.01), np.zeros(500), np.full(500, 9.0))
    given.save(tmp_path)
    found = Refinement.load(tmp_path)
    assert found.failed == ""
    Refinement.nothing("because").save(tmp_path)
    assert Refinement.load(tmp_path).failed == "because"
    assert found.at(np.zeros((1, 3))) == pytest.approx(0.01, rel=1e-3)
    assert found.at(np.array([[0.2, 0.0, 0.0]])) == pytest.approx(0.0, abs=1e-6)
    assert (Refinement.nothing().at(vertices) == 0).all()


def test_details_raise_the_skin_by_their_height_and_nothing_else():
    torso = sample_torso(4)[0]
    skin = TriangleMesh(torso.vertices_ras, torso.faces, Frame.PATIENT)
    details = details_on(torso.body_ras, torso.landmarks_ras, DETAILS, 4)
    assert {detail.kind for detail in details} == set(DETAILS)
    normals = vertex_normals(skin.vertices, skin.faces)
    found = with_details(skin.vertices, skin.faces, normals, details, {})
    away, _ = closest_on_mesh(found.vertices, skin.vertices, skin.faces)
    assert (away <= np.abs(found.heights) + 1e-6).all()
    assert away[found.labels == 0].max() < 2.6
    for detail in details:
        own = cKDTree(detail.line).query(found.vertices)[0] < 6
        assert np.abs(found.heights[own]).max() == pytest.approx(detail.largest, rel=0.45), detail.kind
        assert (found.labels[own] == 1 + DETAILS.index(detail.kind)).any()
    same = with_details(skin.vertices, skin.faces, normals, [], {})
    assert np.array_equal(same.vertices, skin.vertices)
    assert not same.labels.any()
