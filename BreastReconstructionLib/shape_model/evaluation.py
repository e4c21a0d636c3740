"""Signed distances of one shape and their derivatives by points and by code, in chunks of constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from .model_file import ShapeModel
from .network import FoldedShape

# A member whose blend weight is below this is skipped at a point. Members differ by less than 1 unit in the cube, so the
# error stays below 6 * 1e-6 units, 0.002 mm.
NEGLIGIBLE_WEIGHT = 1e-6
CHUNK = 16_384


@dataclass(frozen=True)
class Shape:
    """One shape of a model, ready to be evaluated.

    Attributes:
        model: the shape model.
        code: (latent,) code.
        folded: code and anchors folded into biases, batch of one.
    """

    model: ShapeModel
    code: torch.Tensor
    folded: FoldedShape

    @classmethod
    def of(cls, model: ShapeModel, code: torch.Tensor) -> Shape:
        """Fold a code."""
        with torch.no_grad():
            return cls(model, code, model.network.fold(code[None]))

    @property
    def anchors_model(self) -> np.ndarray:
        """(6, 3) anchors, model units."""
        return self.folded.anchors[0].numpy().astype(float)


@dataclass(frozen=True)
class Derivatives:
    """Value and derivatives at N points.

    Attributes:
        distance: (N,) model units.
        by_point: (N, 3) gradient in space.
        by_code: (N, R) derivative by the whitened coordinates of the code.
    """

    distance: torch.Tensor
    by_point: torch.Tensor
    by_code: torch.Tensor


def signed_distances(shape: Shape, points_model: np.ndarray) -> np.ndarray:
    """Return (N,) signed distances at (N, 3) points; model units, negative inside."""
    result = np.empty(len(points_model), np.float32)
    with torch.no_grad():
        for start in range(0, len(points_model), CHUNK):
            part = torch.as_tensor(points_model[start : start + CHUNK], dtype=torch.float32)
            values = shape.model.network.distances(part[None], shape.folded, NEGLIGIBLE_WEIGHT)
            result[start : start + CHUNK] = values[0].numpy()
    return result


def distances_and_gradients(shape: Shape, points_model: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) signed distances and their (N, 3) gradients in space."""
    distances, gradients = [], []
    for start in range(0, len(points_model), CHUNK):
        part = torch.as_tensor(points_model[start : start + CHUNK], dtype=torch.float32).requires_grad_(True)
        values = shape.model.network.distances(part[None], shape.folded, NEGLIGIBLE_WEIGHT)[0]
        (gradient,) = torch.autograd.grad(values.sum(), part)
        distances.append(values.detach().numpy())
        gradients.append(gradient.numpy())
    return np.concatenate(distances), np.concatenate(gradients)


def derivatives(shape: Shape, points: torch.Tensor) -> Derivatives:
    """Return value and derivatives at (N, 3) points by the chain rule through the folded biases.

    The code enters each member linearly in two layers, so one backward pass to those layers' biases and two small
    matrix products give the whole Jacobian; no pass a latent dimension is needed.
    """
    network, basis = shape.model.network, shape.model.latent_basis
    size, layers = network.size, network.ensembled_deep_sdf
    count = len(points)
    anchors = shape.folded.anchors[0]
    offset = points[:, None] - anchors
    distance = offset.norm(dim=2)
    gaussian = torch.exp(-((distance + 1e-5) ** 2) / size.blend_sigma**2)
    constant = torch.full((count, 1), math.exp(-size.global_blend / size.blend_sigma**2))
    unnormalised = torch.cat([gaussian, constant], dim=1)
    total = unnormalised.sum(dim=1, keepdim=True) + 1e-6
    weights = unnormalised / total

    members = torch.zeros(count, size.members)
    by_point = torch.zeros(count, 3)
    by_code = torch.zeros(count, basis.shape[1])
    by_anchor = torch.zeros(count, size.anchors, 3)
    global_rows = torch.arange(size.global_latent)
    for member in range(size.members):
        chosen = torch.nonzero(weights[:, member] > NEGLIGIBLE_WEIGHT)[:, 0]
        if len(chosen) == 0:
            continue
        x = points[chosen].detach().requires_grad_(True)
        bias0 = shape.folded.bias0[0, member].expand(len(chosen), -1).clone().requires_grad_(True)
        bias2 = shape.folded.bias2[0, member].expand(len(chosen), -1).clone().requires_grad_(True)
        value = network.member_distance(member, x, bias0, bias2)
        grad_x, grad0, grad2 = torch.autograd.grad(value.sum(), [x, bias0, bias2])
        weight = weights[chosen, member][:, None]
        members[chosen, member] = value.detach()
        by_point.index_add_(0, chosen, weight * grad_x)
        start = size.global_latent + member * size.local_latent
        rows = torch.cat([global_rows, torch.arange(start, start + size.local_latent)])
        to_bias0 = layers.lin0.weight[member][:, 3:] @ basis[rows]
        to_bias2 = layers.lin2.weight[member][:, -size.member_input :][:, 3:] @ basis[rows] / math.sqrt(2.0)
        by_code.index_add_(0, chosen, (weight * grad0) @ to_bias0 + (weight * grad2) @ to_bias2)
        if member < size.anchors:
            by_anchor[chosen, member] = -weight * grad_x

    result = (weights * members).sum(dim=1)
    evaluated = weights > NEGLIGIBLE_WEIGHT
    by_gaussian = torch.where(evaluated, members - result[:, None], torch.zeros_like(members))[:, :-1] / total
    slope = gaussian * 2 * (distance + 1e-5) / size.blend_sigma**2 / distance.clamp_min(1e-9)
    through_blend = (by_gaussian * slope)[..., None] * offset
    by_anchor += through_blend
    by_point -= through_blend.sum(dim=1)
    by_code += by_anchor.reshape(count, -1) @ anchor_jacobian(shape)
    return Derivatives(result, by_point, by_code)


def anchor_jacobian(shape: Shape) -> torch.Tensor:
    """Return the (18, R) derivative of the anchors by the whitened coordinates of the code."""
    network = shape.model.network
    size = network.size
    start = shape.code[: size.global_latent]
    jacobian = torch.autograd.functional.jacobian(lambda code: network.anchor_mlp(code), start)
    return jacobian @ shape.model.latent_basis[: size.global_latent]
