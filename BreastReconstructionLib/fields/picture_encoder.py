"""Features of the places of a picture: blocks of ConvNeXt (Liu et al. 2022, arXiv 2201.03545) at several scales, joined at the
finest.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class _Norm(nn.LayerNorm):
    """Layer normalisation over channels of (B, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """A block of ConvNeXt."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gain = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gain * self.narrow(functional.gelu(self.wide(y)))).permute(0, 3, 1, 2)


class PictureEncoder(nn.Module):
    """Pictures in, features of their places out.

    Args:
        stem: first layer, from a picture's channels to the first width; its stride is the finest scale.
        widths, depths: of the scales, each half as fine as the one before.
        joined: width of the features of a place.
    """

    def __init__(self, stem: nn.Module, widths: tuple[int, ...], depths: tuple[int, ...], joined: int):
        super().__init__()
        stages, joins, before = [], [], 0
        for wide, depth in zip(widths, depths, strict=True):
            down = nn.Sequential(_Norm(before), nn.Conv2d(before, wide, 2, 2)) if before else stem
            stages.append(nn.Sequential(down, *(_Block(wide) for _ in range(depth))))
            joins.append(nn.Conv2d(wide, joined, 1))
            before = wide
        self.stages, self.joins = nn.ModuleList(stages), nn.ModuleList(joins)

    def places(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, joined, H / s, W / s) features, s the stem's stride, and those of the coarsest scale, for (B, C, H, W)."""
        levels, x = [], pictures
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        joined = self.joins[-1](levels[-1])
        for join, level in zip(reversed(self.joins[:-1]), reversed(levels[:-1]), strict=True):
            joined = functional.interpolate(joined, level.shape[2:], mode="bilinear", align_corners=False) + join(level)
        return joined, x
