"""Triangles are halved without cracks, and the surface stays where and as it was."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastReconstructionLib.mesh.halving import bent_edges, edges_of, halved
from BreastReconstructionLib.mesh.mesh import vertex_areas, weighted_quantile

pytestmark = pytest.mark.fast

BALL = trimesh.creation.icosphere(2, 10.0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_any_choice_of_edges_gives_a_closed_mesh_of_the_same_volume(seed, share):
    vertices, faces = np.asarray(BALL.vertices), np.asarray(BALL.faces)
    edges, numbers = edges_of(faces)
    chosen = np.random.default_rng(seed).random(len(edges)) < share
    finer = halved(faces, edges, numbers, chosen, len(vertices))
    everything = np.concatenate([vertices, vertices[edges[chosen]].mean(axis=1)])
    mesh = trimesh.Trimesh(everything, finer, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(BALL.volume, rel=1e-9)
    assert len(finer) == len(faces) + 2 * chosen.sum()


def test_an_edge_is_bent_by_the_height_of_its_arc():
    """A chord of a circle of radius 10: 10 (1 - cos(angle / 2)) below the arc."""
    angle = 0.2
    vertices = 10.0 * np.array([[1.0, 0.0, 0.0], [np.cos(angle), np.sin(angle), 0.0]])
    height = 10.0 * (1 - np.cos(angle / 2))
    bent = lambda tolerance: bent_edges(vertices, vertices / 10.0, np.array([[0, 1]]), tolerance)[0]
    assert bent(0.98 * height)
    assert not bent(1.02 * height)


def test_shares_of_a_surface_do_not_depend_on_its_triangles():
    vertices, faces = np.asarray(BALL.vertices), np.asarray(BALL.faces)
    edges, numbers = edges_of(faces)
    upper = (vertices[edges] > 0).all(axis=1)[:, 2]
    finer = halved(faces, edges, numbers, upper, len(vertices))
    everything = np.concatenate([vertices, vertices[edges[upper]].mean(axis=1)])
    area = vertex_areas(everything, finer)
    assert area.sum() == pytest.approx(BALL.area, rel=1e-9)
    height = everything[:, 2]
    assert np.median(height) > 2.0
    assert weighted_quantile(height, area, 0.5) == pytest.approx(0.0, abs=0.7)
    assert np.isnan(weighted_quantile(np.empty(0), np.empty(0), 0.5))
