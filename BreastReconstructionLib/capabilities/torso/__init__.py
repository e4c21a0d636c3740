"""Video to surface."""

from ...core.stage import Capability
from .stages import ALIGN, CAMERAS, DENSE, FIT, FRAMES, LANDMARKS, MARKERS, REFINE, REPORT, SCALE, SURFACE

TORSO = Capability(
    name="torso",
    stages=(
        FRAMES,
        MARKERS,
        CAMERAS,
        DENSE,
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
