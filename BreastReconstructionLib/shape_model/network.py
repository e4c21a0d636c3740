"""The blend of local signed distance functions anchored at the landmarks (Weiherer et al. 2025, arXiv 2510.13540).

Parameter names and shapes are those of the official checkpoint. The latent code and the anchors enter the first and
the third layer linearly, so both are folded into biases once per shape: a point then costs 3 instead of 195 inputs.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional

SOFTPLUS_BETA = 100.0


@dataclass(frozen=True)
class NetworkSize:
    """Dimensions of the network; the defaults are the official model's (latent code of 576)."""

    anchors: int = 6
    global_latent: int = 128
    local_latent: int = 64
    hidden: int = 200
    anchor_hidden: int = 256
    blend_sigma: float = 0.25
    global_blend: float = 0.2

    @property
    def members(self) -> int:
        """Local functions plus the global one."""
        return self.anchors + 1

    @property
    def latent(self) -> int:
        """Length of a latent code: global, then one local part a member."""
        return self.global_latent + self.members * self.local_latent

    @property
    def member_input(self) -> int:
        """Inputs of one member: coordinates, global latent, its local latent."""
        return 3 + self.global_latent + self.local_latent

    def as_dict(self) -> dict:
        """Return plain numbers, for the model card."""
        return asdict(self)


class EnsembledLinear(nn.Module):
    """One linear layer for every member: weight (members, out, in), bias (members, out)."""

    def __init__(self, members: int, inputs: int, outputs: int):
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, outputs, inputs).uniform_(-bound, bound) * math.sqrt(3.0))
        self.bias = nn.Parameter(torch.empty(members, outputs).uniform_(-bound, bound))


class EnsembledDeepSDF(nn.Module):
    """Parameters of the members' multilayer perceptrons; evaluated by `ShapeNetwork`."""

    def __init__(self, size: NetworkSize):
        super().__init__()
        bottleneck = size.hidden - size.member_input
        if bottleneck < 1:
            raise ValueError(f"a width of {size.hidden} leaves no room for the skip of {size.member_input} inputs")
        widths = [
            (size.member_input, size.hidden),
            (size.hidden, bottleneck),
            (size.hidden, size.hidden),
            (size.hidden, size.hidden),
            (size.hidden, 1),
        ]
        for i, (inputs, outputs) in enumerate(widths):
            setattr(self, f"lin{i}", EnsembledLinear(size.members, inputs, outputs))


@dataclass(frozen=True)
class FoldedShape:
    """A batch of B shapes with codes and anchors folded into biases; M members, H hidden.

    Attributes:
        anchors: (B, M - 1, 3) model units.
        bias0, bias2: (B, M, H).
    """

    anchors: torch.Tensor
    bias0: torch.Tensor
    bias2: torch.Tensor


class ShapeNetwork(nn.Module):
    """Signed distance of a point to the shape that a latent code stands for; model units, negative inside."""

    def __init__(self, size: NetworkSize, mean_anchors: torch.Tensor):
        super().__init__()
        self.size = size
        self.ensembled_deep_sdf = EnsembledDeepSDF(size)
        self.anchor_mlp = nn.Sequential(
            nn.Linear(size.global_latent, size.anchor_hidden),
            nn.ReLU(),
            nn.Linear(size.anchor_hidden, size.anchor_hidden),
            nn.ReLU(),
            nn.Linear(size.anchor_hidden, 3 * size.anchors),
        )
        self.register_buffer("mean_anchors", mean_anchors.to(torch.float32).clone(), persistent=False)

    def anchors(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the (B, A, 3) anchors of (B, latent) codes, model units."""
        offsets = self.anchor_mlp(codes[:, : self.size.global_latent])
        return offsets.reshape(len(codes), self.size.anchors, 3) + self.mean_anchors

    def fold(self, codes: torch.Tensor) -> FoldedShape:
        """Fold (B, latent) codes and their anchors into the biases of layers 0 and 2."""
        size, layers = self.size, self.ensembled_deep_sdf
        anchors = self.anchors(codes)
        origin = torch.zeros_like(anchors[:, :1])
        origins = torch.cat([anchors, origin], dim=1)
        shared = codes[:, None, : size.global_latent].expand(-1, size.members, -1)
        local = codes[:, size.global_latent :].reshape(len(codes), size.members, size.local_latent)
        constant = torch.cat([-origins, shared, local], dim=2)
        skip = layers.lin2.weight[:, :, -size.member_input :] / math.sqrt(2.0)
        bias0 = torch.einsum("bmi,mhi->bmh", constant, layers.lin0.weight) + layers.lin0.bias
        bias2 = torch.einsum("bmi,mhi->bmh", constant, skip) + layers.lin2.bias
        return FoldedShape(anchors, bias0, bias2)

    def blend_weights(self, points: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Return the (B, N, M) blend weights at (B, N, 3) points: Gaussians at the anchors, a constant for the global member."""
        size = self.size
        distance = (points[:, :, None] - anchors[:, None]).norm(dim=3) + 1e-5
        local = torch.exp(-(distance**2) / size.blend_sigma**2)
        constant = torch.full_like(local[:, :, :1], math.exp(-size.global_blend / size.blend_sigma**2))
        weights = torch.cat([local, constant], dim=2)
        return weights / (weights.sum(dim=2, keepdim=True) + 1e-6)

    def member_distance(self, member: int, points: torch.Tensor, bias0: torch.Tensor, bias2: torch.Tensor) -> torch.Tensor:
        """Return the (N,) signed distances that one member predicts at (N, 3) points.

        Args:
            member: which one; the last is global.
            points: (N, 3) model units.
            bias0, bias2: (N, H) or (H,) folded biases of the point's shape.
        """
        inputs, root2 = self.size.member_input, math.sqrt(2.0)
        weight = [getattr(self.ensembled_deep_sdf, f"lin{i}").weight[member] for i in range(5)]
        bias = [getattr(self.ensembled_deep_sdf, f"lin{i}").bias[member] for i in range(5)]
        x = functional.softplus(points @ weight[0][:, :3].T + bias0, SOFTPLUS_BETA)
        x = functional.softplus(functional.linear(x, weight[1], bias[1]), SOFTPLUS_BETA)
        skip = torch.cat([weight[2][:, :-inputs], weight[2][:, -inputs:][:, :3]], dim=1) / root2
        x = functional.softplus(torch.cat([x, points], dim=1) @ skip.T + bias2, SOFTPLUS_BETA)
        x = functional.softplus(functional.linear(x, weight[3], bias[3]), SOFTPLUS_BETA)
        return functional.linear(x, weight[4], bias[4])[:, 0]

    def distances(self, points: torch.Tensor, shape: FoldedShape, negligible: float = 0.0) -> torch.Tensor:
        """Return the (B, N) signed distances at (B, N, 3) points.

        Args:
            points: model units.
            shape: the folded codes.
            negligible: members whose blend weight at a point is at most this are not evaluated there. The result then
                errs by at most 6 * negligible * (the largest difference between two members at that point).
        """
        batch, count, _ = points.shape
        weights = self.blend_weights(points, shape.anchors).reshape(batch * count, -1)
        flat = points.reshape(-1, 3)
        result = torch.zeros_like(flat[:, 0])
        for member in range(self.size.members):
            chosen = torch.nonzero(weights[:, member] > negligible)[:, 0]
            bias0, bias2 = shape.bias0[:, member], shape.bias2[:, member]
            if batch == 1:
                bias0, bias2 = bias0[0], bias2[0]
            else:
                of_shape = chosen // count
                bias0, bias2 = bias0[of_shape], bias2[of_shape]
            distance = self.member_distance(member, flat[chosen], bias0, bias2)
            result = result.index_add(0, chosen, weights[chosen, member] * distance)
        return result.view(batch, count)

    def forward(self, points: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, N) signed distances and (B, A, 3) anchors for (B, N, 3) points and (B, latent) codes."""
        shape = self.fold(codes)
        return self.distances(points, shape), shape.anchors
