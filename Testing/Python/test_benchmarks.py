"""The benchmark runs, and what it writes has the promised keys; its figures are not judged here."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from BreastReconstructionLib.fields.evaluation import Shape, signed_distances
from BreastReconstructionLib.shape_model.model_file import load_model
from Testing.Benchmarks import model_parts, published
from Testing.Benchmarks.plot import exponent
from Testing.conftest import ROOT


def benchmark(*arguments):
    words = [sys.executable, "-m", "Testing.Benchmarks", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=600, check=False)


def test_small_run_writes_json(tmp_path):
    # At 64 cells a side this shape has an ambiguous cell, where scikit-image adds a vertex inside and VTK none: 0.8 mm apart.
    file = tmp_path / "figures.json"
    finished = benchmark("--only", "extraction,preview", "--cells", 72, "--repeats", 1, "--json", file)
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(file.read_text())
    assert figures["extraction"]["speedup"] > 1
    assert 0 <= figures["extraction"]["apart_mm"] < 0.05
    assert figures["preview"]["followed"]["mean_error_mm"] < 0.5


def test_unknown_part_is_said():
    finished = benchmark("--only", "lunch")
    assert finished.returncode == 2
    assert "unknown parts: lunch" in finished.stderr


def test_published_network_is_ours_written_plainly():
    model = load_model()
    code = model.code(0.5 * torch.randn(model.latent_basis.shape[1], generator=torch.Generator().manual_seed(1)))
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (500, 3))
    ours = signed_distances(Shape.of(model, code), points, 0.0)
    # Differences are 4e-7; once, in a full run, one point of 500 lay 1.5e-5 apart. Why is not known: not the number of threads.
    np.testing.assert_allclose(published.dense_grid_distances(model, code, points), ours, rtol=1e-4, atol=1e-5)


def test_growth_is_measured_at_every_size():
    for growth, sizes in ((model_parts.growth_in_cells, (48, 64)), (model_parts.growth_in_width, (100, 200))):
        seconds = growth("cpu", sizes)
        assert tuple(seconds) == sizes
        assert min(seconds.values()) > 0


def test_exponent():
    assert exponent({1: 1.0, 10: 20.0, 100: 2000.0}) == pytest.approx(2.0)
