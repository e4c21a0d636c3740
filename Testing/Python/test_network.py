import math

import numpy as np
import pytest
import torch

from BreastReconstructionLib.fields.evaluation import Shape, derivatives, distances_and_gradients, signed_distances
from BreastReconstructionLib.fields.network import VARIANTS, NetworkSize, ShapeNetwork
from BreastReconstructionLib.landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL
from BreastReconstructionLib.shape_model.model import ShapeModel
from BreastReconstructionLib.shape_model.model_file import load_model, save_model

pytestmark = pytest.mark.fast


def transcription(state, mean_anchors, points, code):
    """The paper's network (arXiv 2510.13540), written down word by word for one shape: no folding, no batches, no skipping."""
    hidden = torch.relu(state["anchor_mlp.0.weight"] @ code[:128] + state["anchor_mlp.0.bias"])
    hidden = torch.relu(state["anchor_mlp.2.weight"] @ hidden + state["anchor_mlp.2.bias"])
    offsets = state["anchor_mlp.4.weight"] @ hidden + state["anchor_mlp.4.bias"]
    anchors = mean_anchors + offsets.reshape(6, 3)
    weights, values = [], []
    for k in range(7):
        origin = anchors[k] if k < 6 else torch.zeros(3)
        local = code[128 + 64 * k : 128 + 64 * (k + 1)]
        latent = torch.cat([code[:128], local]).expand(len(points), -1)
        given = torch.cat([points - origin, latent], dim=1)
        x = given
        for layer in range(5):
            if layer == 2:
                x = torch.cat([x, given], dim=1) / math.sqrt(2)
            weight = state[f"ensembled_deep_sdf.lin{layer}.weight"][k]
            x = x @ weight.T + state[f"ensembled_deep_sdf.lin{layer}.bias"][k]
            if layer < 4:
                x = torch.nn.functional.softplus(x, beta=100)
        values.append(x[:, 0])
        square = ((points - origin).norm(dim=1) + 1e-5) ** 2 if k < 6 else torch.full((len(points),), 0.2)
        weights.append(torch.exp(-square / 0.25**2))
    weights, values = torch.stack(weights, 1), torch.stack(values, 1)
    return (weights * values).sum(1) / (weights.sum(1) + 1e-6), anchors


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return ShapeNetwork(NetworkSize(), torch.tensor(OFFICIAL_MEAN_ANCHORS_MODEL)).requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    return load_model()


def test_parameters_are_those_of_the_official_checkpoint(network):
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    expected = {
        "anchor_mlp.0.weight": (256, 128),
        "anchor_mlp.0.bias": (256,),
        "anchor_mlp.2.weight": (256, 256),
        "anchor_mlp.2.bias": (256,),
        "anchor_mlp.4.weight": (18, 256),
        "anchor_mlp.4.bias": (18,),
    }
    widths = [(200, 195), (5, 200), (200, 200), (200, 200), (1, 200)]
    for layer, (outputs, inputs) in enumerate(widths):
        expected[f"ensembled_deep_sdf.lin{layer}.weight"] = (7, outputs, inputs)
        expected[f"ensembled_deep_sdf.lin{layer}.bias"] = (7, outputs)
    assert shapes == expected
    assert network.size.latent == 576


def test_folded_evaluation_equals_the_transcription(network):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(400, 3, generator=generator) * 2 - 1
    for scale in (0.0, 0.1, 1.0):
        code = torch.randn(576, generator=generator) * scale
        expected, anchors = transcription(network.state_dict(), network.mean_anchors, points, code)
        found, found_anchors = network(points[None], code[None])
        torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(found_anchors[0], anchors, atol=1e-6, rtol=0)


def test_a_batch_is_its_shapes(network):
    generator = torch.Generator().manual_seed(1)
    points, codes = torch.rand(3, 50, 3, generator=generator), torch.randn(3, 576, generator=generator) * 0.3
    together, _ = network(points, codes)
    for i in range(3):
        torch.testing.assert_close(together[i], network(points[i : i + 1], codes[i : i + 1])[0][0], atol=1e-6, rtol=0)


def member_differences(model, points):
    """For each of (1, N, 3) points, the largest difference between a member's distance and the blend's, model units."""
    folded = model.network.fold(model.latent_mean[None])
    exact = model.network.distances(points, folded)[0]
    each = [
        model.network.member_distance(m, points[0], folded.bias_first[0, m], folded.bias_skip[0, m])
        for m in range(model.network.size.members)
    ]
    return (torch.stack(each) - exact).abs().amax(dim=0)


def test_skipping_negligible_members_errs_within_its_bound(model):
    rng = np.random.default_rng(0)
    points = torch.as_tensor(rng.uniform(-1, 1, (5000, 3)), dtype=torch.float32)[None]
    folded = model.network.fold(model.latent_mean[None])
    exact = model.network.distances(points, folded)
    difference = member_differences(model, points)
    for negligible in (1e-5, 1e-3):
        skipped = model.network.distances(points, folded, negligible)
        assert ((skipped - exact).abs()[0] <= 6 * negligible * difference + 2e-6).all()
    assert float((skipped - exact).abs().max()) > 0


def test_evaluation_skips_within_the_same_bound_and_equals_the_network(model):
    points = np.random.default_rng(4).uniform(-1, 1, (5000, 3))
    shape = Shape.of(model, model.latent_mean)
    folded = model.network.fold(model.latent_mean[None])
    exact = model.network.distances(torch.as_tensor(points, dtype=torch.float32)[None], folded)[0].detach().numpy()
    np.testing.assert_allclose(signed_distances(shape, points, 0.0), exact, atol=2e-6)
    for negligible in (1e-6, 1e-3):
        bound = 6 * negligible * member_differences(model, torch.as_tensor(points, dtype=torch.float32)[None]).numpy()
        assert (np.abs(signed_distances(shape, points, negligible) - exact) <= bound + 2e-6).all()
    near = np.abs(exact) < 0.03
    skipped = signed_distances(shape, points)
    assert np.abs(skipped - exact).max() * model.mm_per_unit < 0.01  # as `evaluation` says
    assert np.abs(skipped - exact)[near].max() * model.mm_per_unit < 0.002


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_cuda_gives_the_same_distances_and_gradients(model):
    points = np.random.default_rng(5).uniform(-0.7, 0.7, (200_000, 3))
    here, there = (Shape.of(model.on(device), model.latent_mean) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(signed_distances(there, points), signed_distances(here, points), atol=1e-4)
    for a, b in zip(distances_and_gradients(there, points), distances_and_gradients(here, points), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def untrained(variant):
    """A model of random weights, with sixty directions of its code."""
    torch.manual_seed(5)
    size = VARIANTS[variant]
    network = ShapeNetwork(size, torch.tensor(OFFICIAL_MEAN_ANCHORS_MODEL)).requires_grad_(False)
    basis = torch.linalg.qr(torch.randn(size.latent, 60))[0] * 0.3
    return ShapeModel(network, torch.randn(size.latent) * 0.1, basis, 290.0, 20.0, {"name": variant})


def deep_sdf(state, points, code):
    """The global variant, written down word by word: one DeepSDF of eight hidden layers, the input again into the fifth."""
    given = torch.cat([points, code.expand(len(points), -1)], dim=1)
    x = given
    for layer in range(9):
        if layer == 4:
            x = torch.cat([x, given], dim=1) / math.sqrt(2)
        x = x @ state[f"ensembled_deep_sdf.lin{layer}.weight"][0].T + state[f"ensembled_deep_sdf.lin{layer}.bias"][0]
        if layer < 8:
            x = torch.nn.functional.softplus(x, beta=100)
    return x[:, 0]


def test_the_global_variant_is_one_deep_sdf_behind_the_same_interface():
    model = untrained("global")
    assert (model.network.size.latent, model.network.size.members) == (256, 1)
    points = torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = deep_sdf(model.network.state_dict(), points, model.latent_mean)
    found, anchors = model.network(points[None], model.latent_mean[None])
    constant = math.exp(-0.2 / 0.25**2)
    torch.testing.assert_close(found[0] * (constant + 1e-6) / constant, expected, atol=1e-5, rtol=0)
    assert anchors.shape == (1, 6, 3)
    shape = Shape.of(model, model.latent_mean)
    np.testing.assert_allclose(signed_distances(shape, points.numpy()), found[0].numpy(), atol=2e-6)


@pytest.mark.parametrize("variant", ["local", "global"])
def test_derivatives_of_both_variants_are_those_of_autograd(variant):
    model = untrained(variant)
    points = (torch.rand(40, 3, generator=torch.Generator().manual_seed(1)) * 1.2 - 0.6).requires_grad_(True)
    code = model.latent_mean.clone().requires_grad_(True)
    found = derivatives(Shape.of(model, model.latent_mean), points.detach())
    distance, _ = model.network(points[None], code[None])
    by_point = torch.autograd.grad(distance.sum(), points, retain_graph=True)[0]
    by_code = torch.stack([torch.autograd.grad(value, code, retain_graph=True)[0] for value in distance[0]]) @ model.latent_basis
    torch.testing.assert_close(found.distance, distance[0].detach(), atol=2e-6, rtol=0)
    torch.testing.assert_close(found.by_point, by_point, atol=2e-5, rtol=1e-3)
    torch.testing.assert_close(found.by_code, by_code, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("variant", ["local", "global"])
def test_both_variants_are_saved_and_loaded_alike(variant, tmp_path):
    model = untrained(variant)
    loaded = load_model(save_model(tmp_path, model))
    assert loaded.network.size == model.network.size
    points = torch.rand(1, 50, 3)
    torch.testing.assert_close(
        loaded.network(points, model.latent_mean[None])[0], model.network(points, model.latent_mean[None])[0]
    )


def test_derivatives_by_point_and_code(model):
    rng = np.random.default_rng(1)
    u = torch.as_tensor(rng.normal(size=model.latent_basis.shape[1]) * 0.5, dtype=torch.float64)
    points = torch.as_tensor(rng.uniform(-0.6, 0.6, (20, 3)), dtype=torch.float32)
    shape = Shape.of(model, model.code(u.float()))
    found = derivatives(shape, points)
    for k in (0, 3, 40):
        step = torch.zeros_like(u)
        step[k] = 2e-2
        plus = Shape.of(model, model.code((u + step).float()))
        minus = Shape.of(model, model.code((u - step).float()))
        slope = (signed_distances(plus, points.numpy()) - signed_distances(minus, points.numpy())) / 4e-2
        np.testing.assert_allclose(found.by_code[:, k].numpy(), slope, atol=2e-3)
    value, gradient = distances_and_gradients(shape, points.numpy())
    np.testing.assert_allclose(found.distance.numpy(), value, atol=1e-6)
    np.testing.assert_allclose(found.by_point.numpy(), gradient, atol=3e-4)
