"""What is done with a surface: combined with CT and MRI, measured, compared."""

from ...core.stage import Capability
from .stages import COMPARE, MEASURE, REGISTER, SCAN_WALL, SKIN, SUMMARY

CLINIC = Capability(
    name="clinic",
    stages=(
        SKIN,
        REGISTER,
        MEASURE,
        SCAN_WALL,
        COMPARE,
        SUMMARY,
    ),
    commands="capabilities.clinic.commands:add",
    say="capabilities.clinic.commands:say_result",
)
