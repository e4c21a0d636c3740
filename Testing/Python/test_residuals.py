import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastReconstructionLib.measurement.residuals import doubt_of_residuals, misfit, scatter_about_neighbours

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("reprojection", "longer", "p95"), [(0.37, 1920, 3.6), (0.52, 1920, 5.8), (0.34, 960, 3.7), (math.nan, 1920, 5.0)]
)
def test_sound_runs_are_believed(reprojection, longer, p95):
    assert misfit(reprojection, longer, p95) == 1.0
    assert doubt_of_residuals(reprojection, longer, p95) == ()


def test_a_run_like_that_of_stretched_pixels_is_said_and_its_uncertainty_grows():
    """1.2 px and 12 mm were seen, with an error of 9.4 mm where 0.7 was stated."""
    assert 0.7 * misfit(1.2, 1920, 12.0) > 5
    (said,) = doubt_of_residuals(1.2, 1920, 12.0)
    assert "Do not rely on this surface" in said
    assert "1.2 px" in said
    assert "12 mm" in said


@given(st.floats(0.1, 5), st.floats(1, 50), st.floats(1, 3))
def test_the_uncertainty_never_shrinks_as_residuals_grow(reprojection, p95, factor):
    assert misfit(reprojection * factor, 1920, p95) >= misfit(reprojection, 1920, p95) >= 1.0
    assert misfit(reprojection, 1920, p95 * factor) >= misfit(reprojection, 1920, p95)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.2, 1.2), st.integers(0, 10**6))
def test_points_scatter_by_their_noise_about_a_curved_surface(noise_mm, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-100, 100, (2, 12_000))
    z = 0.002 * x**2 - 0.001 * x * y + rng.normal(0, noise_mm, len(x))
    assert scatter_about_neighbours(np.column_stack([x, y, z])) == pytest.approx(noise_mm, rel=0.1)
    assert math.isnan(scatter_about_neighbours(np.zeros((5, 3))))
