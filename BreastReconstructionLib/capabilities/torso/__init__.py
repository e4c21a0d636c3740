"""Video to surface."""

from ...core.stage import Capability
from .stages import ALIGN, CAMERAS, DENSE, FIT, FRAMES, GUIDANCE, LANDMARKS, MARKERS, PROPOSAL, REFINE, REPORT, SCALE, SURFACE

TORSO = Capability(
    name="torso",
    stages=(
        FRAMES,
        GUIDANCE,
        MARKERS,
        CAMERAS,
        DENSE,
        PROPOSAL,
        LANDMARKS,
        ALIGN,
        SCALE,
        FIT,
        REFINE,
        SURFACE,
        REPORT,
    ),
    commands="capabilities.torso.commands:add",
    say="capabilities.torso.commands:say_result",
    migrate="capabilities.torso.migration:migrate",
)
