"""The published procedure (liRBSM, arXiv 2510.13540), written straightforwardly: what ours is compared with."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from BreastReconstructionLib.fields.network import SOFTPLUS_BETA
from BreastReconstructionLib.shape_model.model import ShapeModel

STEPS, STEP_POINTS = 1000, 1000
# The fastest of 4, 16 and 64 thousand here.
CHUNK = 4_096


def distances(model: ShapeModel, code: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed distances (N,) at (N, 3) points and anchors (6, 3): all members at all points, codes concatenated to each."""
    network = model.network
    size, layers = network.size, network.ensembled_deep_sdf
    anchors = network.anchors(code[None])[0]
    origins = torch.cat([anchors, torch.zeros(1, 3)])
    shared = code[: size.global_latent].expand(len(points), size.members, -1)
    local = code[size.global_latent :].reshape(size.members, -1).expand(len(points), -1, -1)
    inputs = torch.cat([points[:, None] - origins, shared, local], dim=2)
    x = inputs
    for i in range(5):
        layer = getattr(layers, f"lin{i}")
        if i == 2:
            x = torch.cat([x, inputs], dim=2) / math.sqrt(2.0)
        x = torch.einsum("nmi,moi->nmo", x, layer.weight) + layer.bias
        if i < 4:
            x = functional.softplus(x, SOFTPLUS_BETA)
    weights = network.blend_weights(points[None], anchors[None])[0]
    return (weights * x[..., 0]).sum(dim=1), anchors


def fit(points_model: np.ndarray, landmarks_model: np.ndarray, model: ShapeModel, seed: int = 0) -> torch.Tensor:
    """The latent code by 1000 steps of Adam; no refinement of the similarity."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.as_tensor(points_model, dtype=torch.float32)
    landmarks = torch.as_tensor(landmarks_model, dtype=torch.float32)
    z = torch.zeros_like(model.latent_mean, requires_grad=True)
    optimiser = torch.optim.Adam([z], lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 200, 0.5)
    for step in range(STEPS):
        chosen = points[torch.randint(len(points), (STEP_POINTS,), generator=generator)]
        values, anchors = distances(model, model.latent_mean + z, chosen)
        limit = 0.1 if step < 250 else 0.05 if step < 500 else 0.0075
        near = values.abs()[values.abs() < limit]
        code_weight = 0.1 / (3 if step >= 200 else 1) / (10 if step >= 600 else 1)
        loss = code_weight * (z**2).sum() + 0.1 * ((anchors - landmarks) ** 2).sum(dim=1).mean()
        if len(near):
            loss = loss + near.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return (model.latent_mean + z).detach()


def dense_grid_distances(model: ShapeModel, code: torch.Tensor, points: np.ndarray) -> np.ndarray:
    """Signed distances (N,), in chunks."""
    result = np.empty(len(points), np.float32)
    with torch.no_grad():
        for start in range(0, len(points), CHUNK):
            part = torch.as_tensor(points[start : start + CHUNK], dtype=torch.float32)
            result[start : start + CHUNK] = distances(model, code, part)[0].numpy()
    return result
