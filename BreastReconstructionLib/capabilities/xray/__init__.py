"""Bone from a radiograph: a network made from bones, and the bone that a picture shows."""

from ...core.stage import Capability
from .stages import XRAY as XRAY_STAGE

XRAY = Capability(
    name="xray",
    stages=(XRAY_STAGE,),
    commands="capabilities.xray.commands:add",
    say="capabilities.xray.commands:say_result",
)
