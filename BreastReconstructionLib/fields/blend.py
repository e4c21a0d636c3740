"""Weights of the blend of local functions and a global one (Weiherer et al. 2025, arXiv 2510.13540)."""

from __future__ import annotations

import torch

# Keep distances from 0, and the sum of the weights too, as published.
ADDED_DISTANCE, ADDED_SUM = 1e-5, 1e-6


def blend_weights(distances: torch.Tensor, sigma: float, global_blend: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the weights of local members, Gaussians of the distance to their anchors, and of the global one, a constant.

    Args:
        distances: (..., L) of points to the local members' anchors, model units.
        sigma: width of the Gaussians.
        global_blend: the global member counts as a local one at the square root of this distance.

    Returns:
        (..., L + 1) weights, the global one last; (..., 1) their sum before they were divided by it; (..., L) local weights
        before the division.
    """
    squared = (distances + ADDED_DISTANCE).square()
    constant = squared.new_full((*squared.shape[:-1], 1), global_blend)
    unnormalised = torch.cat([squared, constant], dim=-1).mul(-1 / sigma**2).exp()
    total = unnormalised.sum(dim=-1, keepdim=True) + ADDED_SUM
    return unnormalised / total, total, unnormalised[..., :-1]
