"""Parts of surfaces, sheets behind them, and shortest paths along them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from BreastReconstructionLib.core.errors import MeasurementError
from BreastReconstructionLib.mesh.boundary import boundary_loops
from BreastReconstructionLib.mesh.geodesics import length_of, surface_path
from BreastReconstructionLib.mesh.patch import closed_between, cut_patch, harmonic, signed_volume

pytestmark = pytest.mark.fast


def plane(seed=0, count=900, size=100.0):
    rng = np.random.default_rng(seed)
    edge = np.linspace(0, size, 25)
    rim = np.concatenate([np.column_stack([edge, edge * 0 + side]) for side in (0, size)])
    flat = np.concatenate([rng.uniform(0, size, (count, 2)), rim, rim[:, ::-1]])
    flat = np.unique(np.round(flat, 6), axis=0)
    faces = Delaunay(flat).simplices
    first, second = flat[faces[:, 1]] - flat[faces[:, 0]], flat[faces[:, 2]] - flat[faces[:, 0]]
    turn = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    faces = np.where(turn[:, None] < 0, faces[:, ::-1], faces)
    faces = faces[np.abs(turn) > 1e-9]
    return np.column_stack([flat, np.zeros(len(flat))]), faces


def dome(radius=50.0, offset=0.0):
    """A paraboloid of a radius and half its height over a plane."""
    vertices, faces = plane(count=4000, size=140.0)
    flat = vertices[:, :2] - 70.0
    square = (flat**2).sum(axis=1)
    height = (radius**2 - square) / (2 * radius)
    vertices = np.column_stack([flat, height])
    return vertices + offset, faces, np.sqrt(square) - radius


@limits(max_examples=6, deadline=None)
@given(st.floats(40.0, 60.0), st.floats(-500.0, 500.0))
def test_the_volume_of_a_cap_is_exact_wherever_it_lies(radius, offset):
    vertices, faces, values = dome(radius, offset)
    patch = cut_patch(vertices, faces, values, vertices[values.argmin()], {"height": vertices[:, 2]})
    exact = np.pi * radius**3 / 4
    closed = closed_between(patch, harmonic(patch, patch.vertices[patch.rim]))
    assert boundary_loops(closed[1]) == []
    assert signed_volume(*closed) == pytest.approx(exact, rel=0.02)
    np.testing.assert_allclose(patch.data["height"], patch.vertices[:, 2], atol=1e-6)


def test_a_sheet_with_a_gap_at_the_rim_is_closed_and_counted():
    vertices, faces, values = dome()
    patch = cut_patch(vertices, faces, values, vertices[values.argmin()], {})
    flat = harmonic(patch, patch.vertices[patch.rim])
    lower = flat - [0.0, 0.0, 10.0]
    area = np.pi * 50.0**2
    closed = closed_between(patch, lower)
    assert boundary_loops(closed[1]) == []
    assert signed_volume(*closed) - signed_volume(*closed_between(patch, flat)) == pytest.approx(10 * area, rel=0.01)


@limits(max_examples=10, deadline=None)
@given(st.tuples(*[st.floats(-2, 2)] * 3))
def test_harmonic_keeps_linear_functions(slope):
    vertices, faces = plane()
    values = np.linalg.norm(vertices[:, :2] - 50.0, axis=1) - 35.0
    patch = cut_patch(vertices, faces, values, np.array([50.0, 50, 0]), {})
    linear = patch.vertices @ np.array(slope) + slope[2]
    found = harmonic(patch, linear[patch.rim][:, None])[:, 0]
    np.testing.assert_allclose(found, linear, atol=1e-3 * (1 + np.abs(slope).max()))


def test_nothing_inside_is_no_patch():
    vertices, faces = plane()
    assert cut_patch(vertices, faces, np.ones(len(vertices)), np.zeros(3), {}) is None


@limits(max_examples=25, deadline=None)
@given(st.integers(0, 50), st.tuples(*[st.floats(5, 95)] * 4))
def test_shortest_paths_of_a_plane_are_straight(seed, ends):
    vertices, faces = plane(seed)
    start, stop = np.array([*ends[:2], 0.0]), np.array([*ends[2:], 0.0])
    path = surface_path(vertices, faces, start, stop)
    straight = np.linalg.norm(path[0] - path[-1])
    assert length_of(path) == pytest.approx(straight, abs=1e-6)
    assert np.linalg.norm(path[0] - start) < 1e-6 or np.linalg.norm(path[0] - start) < 6.0


def test_a_path_around_a_cylinder_is_that_of_its_sheet():
    vertices, faces = plane(count=8000, size=100.0)
    radius = 60.0
    bent = np.column_stack([radius * np.sin(vertices[:, 0] / radius), vertices[:, 1], radius * np.cos(vertices[:, 0] / radius)])
    a, b = np.linalg.norm(vertices - [10, 10, 0], axis=1).argmin(), np.linalg.norm(vertices - [90, 70, 0], axis=1).argmin()
    length = length_of(surface_path(bent, faces, bent[a], bent[b]))
    assert length == pytest.approx(np.linalg.norm(vertices[a] - vertices[b]), rel=1e-3)


@limits(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_paths_on_a_rough_surface_are_found_wherever_they_end(seed):
    """The part that is cut out for the search may touch itself in vertices."""
    rng = np.random.default_rng(seed)
    vertices, faces = plane(seed, count=400)
    rough = vertices + np.column_stack([np.zeros((len(vertices), 2)), rng.normal(0, 6, len(vertices))])
    start, stop = rough[rng.choice(len(rough), 2, replace=False)]
    path = surface_path(rough, faces, start, stop)
    assert length_of(path) >= np.linalg.norm(start - stop) - 1e-9


def test_a_surface_that_is_no_manifold_is_said():
    vertices, faces = plane(count=200)
    centre = np.linalg.norm(vertices[faces].mean(axis=1) - [50, 50, 0], axis=1).argsort()[:8]
    doubled = np.concatenate([faces, faces[centre]])
    with pytest.raises(MeasurementError, match="no clean mesh"):
        surface_path(vertices, doubled, np.array([20.0, 50, 0]), np.array([80.0, 50, 0]))


def test_no_way_is_none():
    vertices, faces = plane(count=200)
    both = np.concatenate([vertices, vertices + np.array([0, 0, 30.0])])
    assert surface_path(both, np.concatenate([faces, faces + len(vertices)]), both[0], both[-1]) is None


def test_places_off_the_surface_are_brought_to_it():
    vertices, faces = plane(count=4000, size=100.0)
    path = surface_path(vertices, faces, np.array([20.0, 20.0, 12.0]), np.array([70.0, 20.0, 0.0]))
    assert length_of(path) == pytest.approx(50.0, abs=3.0)
