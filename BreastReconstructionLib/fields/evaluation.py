"""Signed distances of one shape and their derivatives by points and by code, in chunks of constant memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from .blend import ADDED_DISTANCE, blend_weights
from .field import Field
from .network import LOWEST_ACTIVATION, SOFTPLUS_BETA, ShapeNetwork

# A member whose blend weight is below this is skipped at a point. Measured on the bundled model, that changes distances by
# 0.004 mm at most in the cube, and by 0.0006 mm within 9 mm of the surface.
NEGLIGIBLE_WEIGHT = 1e-6
# For previews and for pruning: 0.3 mm at most on the bundled model, in two thirds of the time.
ROUGH_WEIGHT = 1e-3
SMALLEST_SLOPE = 1e-6
# The gradient of a trained blend stays below the first near the surface (a true distance has 1; of the bundled model's 99.9 % are
# below 1.65 within 18 mm), and its second derivative along a line below the other (a nipple's tip of 5 mm radius).
LIPSCHITZ, CURVATURE = 1.7, 60.0
# The activations of a chunk stay in the processor's cache.
CHUNK = 2_048


def fastest_device() -> str:
    """Return 'cuda' where there is such a card, else 'cpu'."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class Decoder(Protocol):
    """What turns a code into a shape: the network, and the distribution of its codes."""

    @property
    def network(self) -> ShapeNetwork:
        """The network."""

    @property
    def latent_mean(self) -> torch.Tensor:
        """(latent,) mean code."""

    @property
    def latent_basis(self) -> torch.Tensor:
        """(latent, R) principal directions, each times its standard deviation."""


@dataclass(frozen=True)
class _Member:
    """One member with the code folded in: its layers, weights as (inputs, outputs), the last one (inputs,)."""

    weight: tuple[torch.Tensor, ...]
    bias: tuple[torch.Tensor, ...]
    skip_layer: int
    tanh: bool

    def distance(self, points: torch.Tensor) -> torch.Tensor:
        """Return the (N,) signed distances at (N, 3) points."""
        return self._forward(points, None)

    def derivatives(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (N,) distances and their derivatives by points (N, 3) and by the two folded biases, (N, H) each."""
        before: list[torch.Tensor] = []
        value = self._forward(points, before)
        # Backward: the derivative of softplus is the logistic function.
        by = torch.sigmoid(SOFTPLUS_BETA * before[-1]) * self.weight[-1]
        if self.tanh:
            by = by * (1 - value**2)[:, None]
        for i in range(len(before) - 1, 0, -1):
            into = by @ self.weight[i].T
            if i == self.skip_layer:
                by_skip, by_point, into = by, into[:, -3:], into[:, :-3]
            by = into * torch.sigmoid(SOFTPLUS_BETA * before[i - 1])
        return value, by @ self.weight[0].T + by_point, by, by_skip

    def _forward(self, points: torch.Tensor, before: list[torch.Tensor] | None) -> torch.Tensor:
        """Distances; what enters each softplus is appended to `before` if asked for."""
        x = points
        for i in range(len(self.weight) - 1):
            x = torch.addmm(self.bias[i], torch.cat([x, points], dim=1) if i == self.skip_layer else x, self.weight[i])
            x.clamp_min_(LOWEST_ACTIVATION)
            if before is not None:
                before.append(x)
            x = functional.softplus(x, SOFTPLUS_BETA)
        distance = torch.addmv(self.bias[-1], x, self.weight[-1])
        return distance.tanh_() if self.tanh else distance


@dataclass(frozen=True)
class Shape:
    """One shape of a model, ready to be evaluated.

    Attributes:
        model: what the code belongs to.
        code: (latent,) code.
        anchors: (A, 3) model units.
        members: the members' layers with code and anchors folded into their biases.
    """

    model: Decoder
    code: torch.Tensor
    anchors: torch.Tensor
    members: tuple[_Member, ...]

    @classmethod
    def of(cls, model: Decoder, code: torch.Tensor) -> Shape:
        """Fold a code."""
        network, code = model.network, code.to(model.latent_mean.device)
        size, members = network.size, []
        with torch.no_grad():
            folded = network.fold(code[None])
            for m in range(size.members):
                weight, bias = (list(part) for part in zip(*network.ensembled_deep_sdf.member(m, size)))
                bias[0], bias[size.skip_layer] = folded.bias_first[0, m], folded.bias_skip[0, m]
                transposed = [value.T.contiguous() for value in weight[:-1]]
                members.append(_Member((*transposed, weight[-1][0]), tuple(bias), size.skip_layer, size.tanh))
        return cls(model, code, folded.anchors[0], tuple(members))

    def field(self, negligible: float = NEGLIGIBLE_WEIGHT) -> Field:
        """Return the shape as a field, for extraction; `negligible` as of `signed_distances`."""
        return Field(
            lambda points: signed_distances(self, points, negligible),
            lambda points: distances_and_gradients(self, points, negligible),
            lipschitz=LIPSCHITZ,
            curvature=CURVATURE,
        )

    @property
    def anchors_model(self) -> np.ndarray:
        """(A, 3) anchors, model units."""
        return self.anchors.cpu().numpy().astype(float)


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


@dataclass(frozen=True)
class _Blend:
    """Blend weights of N points, and what their derivatives by the anchors of the local members need."""

    weights: torch.Tensor
    total: torch.Tensor
    offset: torch.Tensor
    slope: torch.Tensor

    @classmethod
    def at(cls, shape: Shape, points: torch.Tensor) -> _Blend:
        size = shape.model.network.size
        offset = points[:, None] - shape.anchors[: size.local_members]
        distance = offset.norm(dim=2)
        weights, total, gaussian = blend_weights(distance, size.blend_sigma, size.global_blend)
        slope = gaussian * 2 * (distance + ADDED_DISTANCE) / size.blend_sigma**2 / distance.clamp_min(1e-9)
        return cls(weights, total, offset, slope)

    def chosen(self, member: int, negligible: float) -> torch.Tensor:
        """Indices of the points at which a member counts."""
        return torch.nonzero(self.weights[:, member] > negligible)[:, 0]

    def by_anchor(self, members: torch.Tensor, result: torch.Tensor, negligible: float) -> torch.Tensor:
        """(N, L, 3) derivative of the blend of (N, M) member distances by the L local anchors, through the weights alone."""
        difference = torch.where(self.weights > negligible, members - result[:, None], torch.zeros_like(members))
        return (difference[:, :-1] / self.total * self.slope)[..., None] * self.offset


def signed_distances(shape: Shape, points_model: np.ndarray, negligible: float = NEGLIGIBLE_WEIGHT) -> np.ndarray:
    """Return (N,) signed distances at (N, 3) points; model units, negative inside.

    Args:
        shape: see Shape.
        points_model: (N, 3).
        negligible: members whose blend weight at a point is at most this are not evaluated there. The result then errs by
            at most 6 * negligible * (the largest difference of a member from the blend at that point).
    """
    result = np.empty(len(points_model), np.float32)
    with torch.no_grad():
        for part, points in _chunks(shape, points_model):
            size = shape.model.network.size
            local = shape.anchors[: size.local_members]
            distance = torch.cdist(points, local, compute_mode="donot_use_mm_for_euclid_dist")
            weights, _, _ = blend_weights(distance, size.blend_sigma, size.global_blend)
            values = torch.zeros(len(points), device=points.device)
            for m, member in enumerate(shape.members):
                chosen = torch.nonzero(weights[:, m] > negligible)[:, 0]
                if len(chosen) == len(points):
                    values += weights[:, m] * member.distance(points)
                elif len(chosen):
                    values.index_add_(0, chosen, weights[chosen, m] * member.distance(points[chosen]))
            result[part] = values.cpu().numpy()
    return result


def distances_and_gradients(
    shape: Shape, points_model: np.ndarray, negligible: float = NEGLIGIBLE_WEIGHT
) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) signed distances and their (N, 3) gradients in space; arguments as `signed_distances`."""
    distances = np.empty(len(points_model), np.float32)
    gradients = np.empty((len(points_model), 3), np.float32)
    with torch.no_grad():
        for part, points in _chunks(shape, points_model):
            blend = _Blend.at(shape, points)
            members = torch.zeros_like(blend.weights)
            gradient = torch.zeros_like(points)
            for m, member in enumerate(shape.members):
                chosen = blend.chosen(m, negligible)
                if len(chosen):
                    members[chosen, m], by_point, _, _ = member.derivatives(points[chosen])
                    gradient.index_add_(0, chosen, blend.weights[chosen, m, None] * by_point)
            value = (blend.weights * members).sum(dim=1)
            gradient -= blend.by_anchor(members, value, negligible).sum(dim=1)
            distances[part], gradients[part] = value.cpu().numpy(), gradient.cpu().numpy()
    return distances, gradients


def distances_to_surface(shape: Shape, points_model: np.ndarray) -> np.ndarray:
    """Return the (N,) distances of (N, 3) points to the zero level to first order: |f| / |grad f| (Taubin 1991); model units.

    Where the gradient vanishes, far from any surface, the result is large but finite.
    """
    distance, gradient = distances_and_gradients(shape, points_model)
    return np.abs(distance) / np.maximum(np.linalg.norm(gradient, axis=1), SMALLEST_SLOPE)


def _chunks(shape: Shape, points_model: np.ndarray) -> Iterator[tuple[slice, torch.Tensor]]:
    # A graphics card hides no memory latency with few points; a processor's cache holds no more.
    size = CHUNK if shape.anchors.device.type == "cpu" else 64 * CHUNK
    for start in range(0, len(points_model), size):
        part = slice(start, min(start + size, len(points_model)))
        yield part, torch.as_tensor(points_model[part], dtype=torch.float32, device=shape.anchors.device)


def derivatives(shape: Shape, points: torch.Tensor) -> Derivatives:
    """Return value and derivatives at (N, 3) points by the chain rule through the folded biases.

    The code enters each member linearly in two layers, so one backward pass to those layers' biases and two small
    matrix products give the whole Jacobian; no pass a latent dimension is needed.
    """
    with torch.no_grad():
        parts = [_derivatives(shape, part) for part in points.split(CHUNK if points.device.type == "cpu" else len(points))]
        by_latent = torch.cat([part[2] for part in parts])
        by_anchor = torch.cat([part[3] for part in parts])
        by_code = by_latent @ shape.model.latent_basis
    by_code += by_anchor.reshape(len(points), 3 * shape.model.network.size.anchors) @ anchor_jacobian(shape)
    return Derivatives(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), by_code)


def _derivatives(shape: Shape, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distances (N,) and derivatives by points (N, 3), latent code (N, latent) and anchors (N, A, 3)."""
    size, layers = shape.model.network.size, shape.model.network.ensembled_deep_sdf
    into_first, into_skip = layers.lin0.weight, getattr(layers, f"lin{size.skip_layer}").weight
    blend = _Blend.at(shape, points)
    members = torch.zeros_like(blend.weights)
    by_point = torch.zeros_like(points)
    by_latent = points.new_zeros(len(points), size.latent)
    by_anchor = points.new_zeros(len(points), size.anchors, 3)
    for m, member in enumerate(shape.members):
        chosen = blend.chosen(m, NEGLIGIBLE_WEIGHT)
        if len(chosen) == 0:
            continue
        value, grad_x, grad_first, grad_skip = member.derivatives(points[chosen])
        weight = blend.weights[chosen, m, None]
        members[chosen, m] = value
        by_point.index_add_(0, chosen, weight * grad_x)
        into_bias = torch.cat([into_first[m][:, 3:], into_skip[m][:, 3 - size.member_input :] / math.sqrt(2.0)])
        latent = torch.cat([weight * grad_first, weight * grad_skip], dim=1) @ into_bias
        by_latent[:, : size.global_latent].index_add_(0, chosen, latent[:, : size.global_latent])
        start = size.global_latent + m * size.local_latent
        by_latent[chosen, start : start + size.local_latent] = latent[:, size.global_latent :]
        if m < size.local_members:
            by_anchor[chosen, m] = -weight * grad_x
    result = (blend.weights * members).sum(dim=1)
    through_blend = blend.by_anchor(members, result, NEGLIGIBLE_WEIGHT)
    by_anchor[:, : size.local_members] += through_blend
    return result, by_point - through_blend.sum(dim=1), by_latent, by_anchor


def anchor_jacobian(shape: Shape) -> torch.Tensor:
    """Return the (3 A, R) derivative of the A anchors by the whitened coordinates of the code."""
    network = shape.model.network
    size = network.size
    if size.anchors == 0:
        return shape.code.new_zeros(0, shape.model.latent_basis.shape[1])
    start = shape.code[: size.global_latent]
    jacobian = torch.autograd.functional.jacobian(lambda code: network.anchor_mlp(code), start)
    return jacobian @ shape.model.latent_basis[: size.global_latent]
