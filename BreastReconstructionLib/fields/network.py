"""The blend of local signed distance functions anchored at the landmarks (Weiherer et al. 2025, arXiv 2510.13540).

Parameter names and shapes are those of the official checkpoint. The latent code and the anchors enter two layers
linearly, so both are folded into biases once per shape: a point then costs 3 instead of 195 inputs. One global function
(DeepSDF, Park et al. 2019) is the blend's special case without local members; it needs no landmarks either.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from .blend import blend_weights

SOFTPLUS_BETA = 100.0
# What enters a softplus is cut off here, which changes what leaves it by 2e-11. Without that, its exponential and the powers of
# it that are computed within are denormal numbers, with which processors are three to ten times slower.
LOWEST_ACTIVATION = -0.2


@dataclass(frozen=True)
class NetworkSize:
    """Dimensions of the network; the defaults are the official model's (latent code of 576).

    Attributes:
        anchors: landmarks that the code places, or 0.
        local_members: how many of them carry a local function: all (a blend), or none (one global function).
        global_latent, local_latent: lengths of the parts of the code.
        hidden, hidden_layers: width and number of each member's hidden layers.
        skip_layer: the layer that sees the whole input again.
        anchor_hidden: width of the network that places the anchors.
        blend_sigma, global_blend: of the blend's weights, see `ShapeNetwork.blend_weights`.
        tanh: each member's distance passes through a hyperbolic tangent, as in DeepSDF.
    """

    anchors: int = 6
    local_members: int = 6
    global_latent: int = 128
    local_latent: int = 64
    hidden: int = 200
    hidden_layers: int = 4
    skip_layer: int = 2
    anchor_hidden: int = 256
    blend_sigma: float = 0.25
    global_blend: float = 0.2
    tanh: bool = False

    def with_anchors(self, count: int) -> NetworkSize:
        """Return the size for another number of landmarks; where the landmarks carried local functions, the new ones do."""
        return replace(self, anchors=count, local_members=count if self.local_members else 0)

    @property
    def members(self) -> int:
        """Local functions plus the global one."""
        return self.local_members + 1

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


# liRBSM's blend; iRBSM's one function with its DeepSDF in half the width; for organs, one function that trains on a processor,
# and one as large as the lung model's (LPM). The number of landmarks is the data's; these are the torso's.
VARIANTS = {
    "local": NetworkSize(),
    "global": NetworkSize(local_members=0, global_latent=256, local_latent=0, hidden=512, hidden_layers=8, skip_layer=4),
    "small": NetworkSize(local_members=0, global_latent=32, local_latent=0, hidden=128, hidden_layers=5, skip_layer=2),
    "large": NetworkSize(
        local_members=0, global_latent=256, local_latent=0, hidden=1024, hidden_layers=8, skip_layer=4, tanh=True
    ),
}


def softplus(x: torch.Tensor) -> torch.Tensor:
    """Return the activation of every hidden layer: log(1 + exp(100 x)) / 100."""
    return functional.softplus(x.clamp_min(LOWEST_ACTIVATION), SOFTPLUS_BETA)


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
        before_skip = size.hidden - size.member_input
        if before_skip < 1:
            raise ValueError(f"a width of {size.hidden} leaves no room for the skip of {size.member_input} inputs")
        for i in range(size.hidden_layers + 1):
            inputs = size.member_input if i == 0 else size.hidden
            outputs = 1 if i == size.hidden_layers else before_skip if i + 1 == size.skip_layer else size.hidden
            setattr(self, f"lin{i}", EnsembledLinear(size.members, inputs, outputs))
        self.layers = tuple(f"lin{i}" for i in range(size.hidden_layers + 1))

    def member(self, index: int, size: NetworkSize) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return one member's (weight, bias) a layer, without the columns that `ShapeNetwork.fold` puts into biases."""
        layers = [(getattr(self, name).weight[index], getattr(self, name).bias[index]) for name in self.layers]
        layers[0] = (layers[0][0][:, :3], layers[0][1])
        weight, bias = layers[size.skip_layer]
        own, skipped = weight[:, : -size.member_input], weight[:, -size.member_input :][:, :3]
        layers[size.skip_layer] = (torch.cat([own, skipped], dim=1) / math.sqrt(2.0), bias)
        return layers


@dataclass(frozen=True)
class FoldedShape:
    """A batch of B shapes with codes and anchors folded into biases; A anchors, M members, H hidden.

    Attributes:
        anchors: (B, A, 3) model units.
        bias_first, bias_skip: (B, M, H) biases of the first layer and of the one that sees the input again.
    """

    anchors: torch.Tensor
    bias_first: torch.Tensor
    bias_skip: torch.Tensor


class ShapeNetwork(nn.Module):
    """Signed distance of a point to the shape that a latent code stands for; model units, negative inside."""

    def __init__(self, size: NetworkSize, mean_anchors: torch.Tensor):
        super().__init__()
        self.size = size
        self.ensembled_deep_sdf = EnsembledDeepSDF(size)
        self.anchor_mlp = nn.Sequential()
        if size.anchors:
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
        if self.size.anchors == 0:
            return codes.new_zeros(len(codes), 0, 3)
        offsets = self.anchor_mlp(codes[:, : self.size.global_latent])
        return offsets.reshape(len(codes), self.size.anchors, 3) + self.mean_anchors

    def fold(self, codes: torch.Tensor) -> FoldedShape:
        """Fold (B, latent) codes and their anchors into the biases of the two layers that see them."""
        size, layers = self.size, self.ensembled_deep_sdf
        skip_layer = getattr(layers, f"lin{size.skip_layer}")
        anchors = self.anchors(codes)
        origin = anchors.new_zeros(len(codes), 1, 3)
        origins = torch.cat([anchors[:, : size.local_members], origin], dim=1)
        shared = codes[:, None, : size.global_latent].expand(-1, size.members, -1)
        local = codes[:, size.global_latent :].reshape(len(codes), size.members, size.local_latent)
        constant = torch.cat([-origins, shared, local], dim=2)
        skip = skip_layer.weight[:, :, -size.member_input :] / math.sqrt(2.0)
        bias_first = torch.einsum("bmi,mhi->bmh", constant, layers.lin0.weight) + layers.lin0.bias
        bias_skip = torch.einsum("bmi,mhi->bmh", constant, skip) + skip_layer.bias
        return FoldedShape(anchors, bias_first, bias_skip)

    def blend_weights(self, points: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Return the (B, N, M) blend weights at (B, N, 3) points: Gaussians at the anchors, a constant for the global member."""
        size = self.size
        distance = (points[:, :, None] - anchors[:, None, : size.local_members]).norm(dim=3)
        return blend_weights(distance, size.blend_sigma, size.global_blend)[0]

    def member_distance(
        self, member: int, points: torch.Tensor, bias_first: torch.Tensor, bias_skip: torch.Tensor
    ) -> torch.Tensor:
        """Return the (N,) signed distances that one member predicts at (N, 3) points.

        Args:
            member: which one; the last is global.
            points: (N, 3) model units.
            bias_first, bias_skip: (N, H) or (H,) folded biases of the point's shape.
        """
        folded = {0: bias_first, self.size.skip_layer: bias_skip}
        layers = self.ensembled_deep_sdf.member(member, self.size)
        # Under autocast only the products of the hidden layers are in bfloat16: coordinates in it err by 0.6 mm.
        exact = {"device_type": points.device.type, "enabled": False}
        x = points
        for i, (weight, bias) in enumerate(layers):
            if i in folded:
                with torch.autocast(**exact):
                    seen = points @ weight[:, -3:].T + folded[i]
                if i > 0:
                    hidden = functional.linear(x, weight[:, :-3])
                    seen = hidden + seen.to(hidden.dtype)
                x = softplus(seen)
            elif i < self.size.hidden_layers:
                x = softplus(functional.linear(x, weight, bias))
        with torch.autocast(**exact):
            distance = functional.linear(x.to(points.dtype), weight, bias)[:, 0]
            return distance.tanh() if self.size.tanh else distance

    def distances(self, points: torch.Tensor, shape: FoldedShape, negligible: float = 0.0) -> torch.Tensor:
        """Return the (B, N) signed distances at (B, N, 3) points.

        Args:
            points: model units.
            shape: the folded codes.
            negligible: members whose blend weight at a point is at most this are not evaluated there. The result then
                errs by at most 6 * negligible * (the largest difference of a member from the blend there).
        """
        batch, count, _ = points.shape
        weights = self.blend_weights(points, shape.anchors).reshape(batch * count, -1)
        flat = points.reshape(-1, 3)
        result = torch.zeros_like(flat[:, 0])
        for member in range(self.size.members):
            chosen = torch.nonzero(weights[:, member] > negligible)[:, 0]
            first, skip = shape.bias_first[:, member], shape.bias_skip[:, member]
            if batch == 1:
                first, skip = first[0], skip[0]
            else:
                of_shape = chosen // count
                # index_select: its backward pass adds rows, that of indexing sorts them first.
                first, skip = first.index_select(0, of_shape), skip.index_select(0, of_shape)
            distance = self.member_distance(member, flat.index_select(0, chosen), first, skip)
            result = result.index_add(0, chosen, weights[:, member].index_select(0, chosen) * distance)
        return result.view(batch, count)

    def forward(self, points: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, N) signed distances and (B, A, 3) anchors for (B, N, 3) points and (B, latent) codes."""
        shape = self.fold(codes)
        return self.distances(points, shape), shape.anchors
