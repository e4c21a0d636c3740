"""Shape models of organs: a model made from segmentations, and the whole organ from a part of one."""

from ...core.stage import Capability
from .stages import ORGAN as ORGAN_STAGE

ORGAN = Capability(
    name="organ",
    stages=(ORGAN_STAGE,),
    commands="capabilities.organ.commands:add",
    say="capabilities.organ.commands:say_result",
)
