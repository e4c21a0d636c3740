"""Stand-ins for the classes of `slicer.ScriptedLoadableModule`."""

from __future__ import annotations

import os
import unittest

import slicer


class ScriptedLoadableModule:
    """A module's entry: its metadata go to `parent`."""

    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)


class ScriptedLoadableModuleWidget:
    """A module's panel inside `parent`, a qMRMLWidget with a vertical layout."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()
        self.developerMode = False

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def setup(self) -> None:
        """Nothing to add outside the developer mode."""

    def cleanup(self) -> None:
        """For the module to override."""


class ScriptedLoadableModuleLogic:
    """A module's logic with its parameter node."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        found = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if found is None:
            found = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            found.UnRegister(None)
            found.SetSingletonTag(self.moduleName)
            found.SetModuleName(self.moduleName)
            found = slicer.mrmlScene.AddNode(found)
        found.SetAttribute("ModuleName", self.moduleName)
        return found


class ScriptedLoadableModuleTest(unittest.TestCase):
    """A module's own tests."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.messageDelay = 0

    def runTest(self) -> None:
        """For the module to override."""

    def delayDisplay(self, message, msec=None) -> None:
        """Say what the test does."""
        print(message)
