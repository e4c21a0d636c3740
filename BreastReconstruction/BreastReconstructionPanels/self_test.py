"""A short test that also runs inside Slicer (Reload and Test)."""

from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from BreastReconstructionLib.scene import patient

from .logic import BreastReconstructionLogic
from .parameters import set_parameters, settings_of


class BreastReconstructionTest(ScriptedLoadableModuleTest):
    """The way from parameters to settings, and from a mesh to a node."""

    def setUp(self):
        """Start from an empty scene."""
        slicer.mrmlScene.Clear()

    def runTest(self):
        """Run each test."""
        self.setUp()
        self.test_parameters_become_settings_and_back()
        self.setUp()
        self.test_surface_node_has_scalars()

    def test_parameters_become_settings_and_back(self):
        """The parameters become settings that the library understands."""
        from BreastReconstructionLib.capabilities.torso.stages import FRAMES, SCALE

        parameters = BreastReconstructionLogic().getParameterNode()
        parameters.video, parameters.case_folder, parameters.distance_mm = "video.mp4", "case", 210.0
        settings = settings_of(parameters, "landmarks.csv")
        self.assertEqual(settings.of(FRAMES).frame_count, 30)
        self.assertEqual(settings.of(SCALE).distance, ("left-nipple:right-nipple=210",))
        parameters.distance_mm = 0.0
        set_parameters(parameters, settings)
        self.assertEqual(parameters.distance_mm, 210.0)
        self.delayDisplay("parameters become settings")

    def test_surface_node_has_scalars(self):
        """A mesh becomes a model node with its scalars, in a folder of the subject hierarchy."""
        import numpy as np

        from BreastReconstructionLib.geometry.transforms import Frame
        from BreastReconstructionLib.mesh.mesh import TriangleMesh
        from BreastReconstructionLib.scene import nodes

        points = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0], [0, 0, 100]])
        faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
        scalars = {"residual_mm": np.arange(4.0), "views": np.ones(4)}
        case = Path("test case")
        mesh = TriangleMesh(points, faces, Frame.PATIENT, points / 100, None, scalars)
        node = nodes.show_surface(case, mesh, "residual_mm")
        self.assertEqual(node.GetDisplayNode().GetActiveScalarName(), "residual_mm")
        self.assertEqual(patient.cases_in_scene(), [case])
        self.assertTrue(np.allclose(nodes.mesh_of(node).vertices, points))
        self.delayDisplay("surface node has scalars")
