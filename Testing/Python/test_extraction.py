import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from BreastReconstructionLib.core.errors import FitError
from BreastReconstructionLib.fields.evaluation import Shape, signed_distances
from BreastReconstructionLib.fields.field import Field
from BreastReconstructionLib.mesh.extraction import (
    cells_for,
    dense_zero_level,
    extract_zero_level,
    follow_zero_level,
    project_to_zero_level,
)
from BreastReconstructionLib.shape_model.model_file import load_model

pytestmark = pytest.mark.fast


def field(function, gradient=None, lipschitz=1.25, curvature=60.0, **cube):
    """A function as a field, with the bounds of a trained network."""
    both = lambda points: (function(points), gradient(points))
    return Field(function, both, lipschitz, curvature, **cube)


def sphere(center, radius):
    return lambda p: np.linalg.norm(p - np.array(center), axis=1) - radius


def torus(p):
    return np.hypot(np.hypot(p[:, 0], p[:, 1]) - 0.5, p[:, 2]) - 0.15


def two_spheres(p):
    return np.minimum(sphere((-0.5, 0, 0), 0.3)(p), sphere((0.5, 0.1, 0.2), 0.02)(p))


@pytest.mark.parametrize("function", [sphere((0.1, 0, -0.05), 0.6), torus, two_spheres], ids=["sphere", "torus", "two"])
@pytest.mark.parametrize("cells", [64, 128])
def test_same_surface_as_the_dense_grid_from_a_fraction_of_its_points(function, cells):
    level = extract_zero_level(field(function), cells)
    dense, _ = dense_zero_level(field(function), cells)
    assert len(level.vertices) == len(np.unique(dense.round(6), axis=0))
    assert cKDTree(dense).query(level.vertices)[0].max() < 1e-5
    assert cKDTree(level.vertices).query(dense)[0].max() < 1e-5
    assert level.evaluated < 0.25 * (cells + 1) ** 3
    assert trimesh.Trimesh(level.vertices, level.faces, process=False).is_watertight


def test_outward_faces_and_projection():
    function = sphere((0, 0, 0), 0.5)
    level = extract_zero_level(field(function), 64)
    vertices, normals = project_to_zero_level(level, field(function, lambda p: p / np.linalg.norm(p, axis=1, keepdims=True)))
    assert np.abs(function(vertices)).max() < 1e-6
    mesh = trimesh.Trimesh(vertices, level.faces, process=False)
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.01)
    assert (np.einsum("ij,ij->i", normals, vertices) > 0).all()


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    st.floats(0.15, 0.6),
    st.sampled_from([64, 100, 128, 148]),
)
def test_any_sphere_is_closed_and_has_its_volume(center, radius, cells):
    level = extract_zero_level(field(sphere(center, radius)), cells)
    mesh = trimesh.Trimesh(level.vertices, level.faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=6 * (2 / cells / radius) ** 2)
    assert np.abs(sphere(center, radius)(level.vertices)).max() < (2 / cells) ** 2 / radius


def test_every_component_above_the_stated_size_is_found_wherever_it_lies():
    """A ball of 0.87 cells of the second grid (64 of them here) holds one of its corners."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        small = sphere(rng.uniform(-0.3, 0.3, 3), 0.88 * 2 / 64)
        both = lambda p, small=small: np.minimum(sphere((0.0, 0.0, -0.75), 0.2)(p), small(p))
        level = extract_zero_level(field(both), 256)
        assert len(trimesh.Trimesh(level.vertices, level.faces, process=False).split()) == 2


def test_points_grow_with_the_square_of_the_side():
    counts = [extract_zero_level(field(torus), cells).evaluated for cells in (128, 256, 512)]
    assert counts[1] < 4.2 * counts[0]
    assert counts[2] < 4.2 * counts[1]


@pytest.mark.parametrize("size", [0.4, 0.5, 1.0, 2.28, 3.0, 6.0, 10.0])
def test_cells_for_gives_cells_no_larger_than_wanted(size):
    unit = size / 291.8
    cells = cells_for(unit)
    assert unit * 0.85 < 2 / cells <= unit
    extract_zero_level(field(sphere((0, 0, 0), 0.5)), cells_for(0.02))


def test_a_number_of_cells_that_does_not_halve_is_refused():
    with pytest.raises(ValueError, match="do not halve"):
        extract_zero_level(field(torus), 130)


def test_a_followed_mesh_lies_on_the_changed_surface():
    level = extract_zero_level(field(sphere((0, 0, 0), 0.5)), 64)
    moved = sphere((0.01, 0, 0), 0.52)
    gradient = lambda p: (p - [0.01, 0, 0]) / np.linalg.norm(p - [0.01, 0, 0], axis=1, keepdims=True)
    followed, normals = follow_zero_level(level, field(moved, gradient))
    assert np.abs(moved(followed.vertices)).max() < 1e-6
    np.testing.assert_array_equal(followed.faces, level.faces)
    assert (np.einsum("ij,ij->i", normals, followed.vertices) > 0).all()
    far, _ = follow_zero_level(level, field(sphere((0, 0, 0), 0.9), gradient))
    assert np.abs(far.vertices - level.vertices).max() <= 0.05 + 1e-12


def test_unguarded_preview_still_finds_what_holds_a_corner_of_the_second_grid():
    level = extract_zero_level(field(two_spheres), 128, guarded=False)
    guarded = extract_zero_level(field(two_spheres), 128)
    assert level.evaluated < guarded.evaluated
    assert trimesh.Trimesh(level.vertices, level.faces, process=False).is_watertight
    assert len(level.vertices) > 0.95 * len(guarded.vertices)


def test_a_steep_field_is_found_by_its_own_bounds():
    """With the bounds of a distance, cells next to the surface of a field of slope 20 would be dropped."""
    steep = lambda p: 20 * sphere((0.1, 0, 0), 0.5)(p)
    level = extract_zero_level(field(steep, lipschitz=20.5, curvature=60.0), 128)
    assert trimesh.Trimesh(level.vertices, level.faces, process=False).volume == pytest.approx(4 / 3 * np.pi * 0.5**3, rel=0.01)
    with pytest.raises(FitError, match="no surface"):
        extract_zero_level(field(lambda p: 200 * sphere((0.1, 0, 0), 0.5)(p)), 128)


def test_a_field_in_a_cube_of_its_own():
    """Millimetres, far from the origin."""
    center = (150.0, 150.0, 150.0)
    ball = field(sphere(center, 60.0), lambda p: (p - center) / np.linalg.norm(p - center, axis=1)[:, None], low=50.0, side=200.0)
    level = extract_zero_level(ball, cells_for(2.0, ball.side))
    assert level.cell <= 2.0
    vertices, _ = project_to_zero_level(level, ball)
    assert np.abs(np.linalg.norm(vertices - center, axis=1) - 60.0).max() < 1e-4
    assert trimesh.Trimesh(vertices, level.faces, process=False).is_watertight


def test_no_surface_is_said():
    with pytest.raises(FitError, match="no surface"):
        extract_zero_level(field(lambda p: np.ones(len(p))), 64)


def test_model_surface_equals_its_dense_grid_within_0_05_mm():
    model = load_model()
    shape = Shape.of(model, model.latent_mean)
    calls = []

    def counted(points):
        calls.append(len(points))
        return signed_distances(shape, points)

    level = extract_zero_level(field(counted), 128)
    assert sum(calls) == level.evaluated
    dense, _ = dense_zero_level(shape.field(), 128)
    unit = model.mm_per_unit
    assert cKDTree(dense).query(level.vertices)[0].max() * unit < 0.05
    assert cKDTree(level.vertices).query(dense)[0].max() * unit < 0.05
    assert level.evaluated * 10 < 129**3
    vertices, _ = project_to_zero_level(level, shape.field())
    assert np.abs(signed_distances(shape, vertices)).mean() * unit < 0.01
    assert trimesh.Trimesh(vertices, level.faces, process=False).is_watertight
