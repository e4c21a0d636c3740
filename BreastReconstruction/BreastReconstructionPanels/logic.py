"""From parameters to a case: its settings, and how its stages stand."""

import os
from pathlib import Path

from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from BreastReconstructionLib.capabilities import CAPABILITIES, STAGES
from BreastReconstructionLib.capabilities.torso.stages import FRAMES
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.run import StageState, states

from .parameters import BreastReconstructionParameterNode, settings_of

WITHOUT_VIDEO = tuple(c for c in CAPABILITIES if not any(FRAMES in (stage, *stage.before()) for stage in c.stages))
NOTHING_DONE = {stage.name: StageState.NOT_DONE for stage in STAGES}


class BreastReconstructionLogic(ScriptedLoadableModuleLogic):
    """From parameters to a case: its settings, and how its stages stand."""

    def getParameterNode(self):
        """Return the typed parameter node of the scene."""
        return BreastReconstructionParameterNode(super().getParameterNode())

    @staticmethod
    def states(parameters, landmarks) -> dict:
        """Return how each stage of the case stands, by name.

        Raises:
            BreastReconstructionError: an input cannot be read.
        """
        folder = Path(parameters.case_folder) if parameters.case_folder else None
        if folder is None or not folder.is_dir():
            return dict(NOTHING_DONE)
        case = Case(folder)
        usable = CAPABILITIES if parameters.video else WITHOUT_VIDEO
        try:
            found = [states(case, capability, settings_of(parameters, landmarks)) for capability in usable]
            return {**NOTHING_DONE, **{name: state for each in found for name, state in each.items()}}
        except OSError:  # the video or a model is gone; what was made from it is still there
            return {stage.name: StageState.DONE if case.has(stage) else StageState.NOT_DONE for stage in STAGES}


def one_spelling(path: str) -> str:
    """Return a folder's path as every part of the panel spells it: absolute, without a slash at its end; '' stays."""
    return str(Path(os.path.abspath(os.path.expanduser(path)))) if path else ""
