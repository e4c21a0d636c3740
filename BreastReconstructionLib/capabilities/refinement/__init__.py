"""A surface learned from the pictures alone: of anything, or of places of the torso."""

from ...core.stage import Capability
from .stages import EXTRACT, NEURAL

REFINEMENT = Capability(
    name="refinement",
    stages=(
        NEURAL,
        EXTRACT,
    ),
    commands="capabilities.refinement.commands:add",
    say="capabilities.refinement.commands:say_result",
)
