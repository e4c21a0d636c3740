"""What the program can do; each capability is a room of its own, and imports no other: they meet in the graph of stages."""

from typing import Any

from ..core.stage import Capability, Stage
from .clinic import CLINIC
from .organ import ORGAN
from .refinement import REFINEMENT
from .torso import TORSO
from .xray import XRAY

CAPABILITIES = (TORSO, REFINEMENT, CLINIC, ORGAN, XRAY)
STAGES = tuple(stage for capability in CAPABILITIES for stage in capability.stages)


def capability_of(stage: Stage[Any, Any]) -> Capability:
    """Return the capability that a stage belongs to."""
    return next(capability for capability in CAPABILITIES if stage in capability.stages)
