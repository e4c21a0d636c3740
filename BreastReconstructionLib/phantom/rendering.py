"""The phantom scene in VTK: the textured patient in a room, rendered off screen by an exact pinhole camera."""

from __future__ import annotations

import math

import cv2
import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPolyData
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkLight,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkTexture,
    vtkWindowToImageFilter,
)

import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  isort: skip  (registers the renderer)

from ..geometry.cameras import Camera
from ..mesh.polydata import triangles

# Of patient space.
UP = np.array([0.0, 0.0, 1.0])


def polydata(
    points: np.ndarray, faces: np.ndarray, uv: np.ndarray | None = None, normals: np.ndarray | None = None
) -> vtkPolyData:
    """Return a triangle mesh with optional (N, 2) texture coordinates and (N, 3) normals."""
    mesh = triangles(points, faces)
    if uv is not None:
        mesh.GetPointData().SetTCoords(numpy_to_vtk(np.ascontiguousarray(uv, np.float32), deep=True))
    if normals is not None:
        mesh.GetPointData().SetNormals(numpy_to_vtk(np.ascontiguousarray(normals, np.float32), deep=True))
    return mesh


def texture(picture: np.ndarray) -> vtkTexture:
    """Return a mip-mapped texture of an (H, W, 3) uint8 RGB picture whose row 0 is the top (v = 1)."""
    image = vtkImageData()
    image.SetDimensions(picture.shape[1], picture.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(picture[::-1]).reshape(-1, 3), deep=True))
    result = vtkTexture()
    result.SetInputData(image)
    result.InterpolateOn()
    result.MipmapOn()
    result.SetMaximumAnisotropicFiltering(8)
    return result


class SceneRenderer:
    """An off-screen window that holds actors and answers pictures; close it when done."""

    def __init__(self, width: int, height: int):
        self._renderer = vtkRenderer()
        self._renderer.SetBackground(0.05, 0.05, 0.05)
        self._renderer.RemoveAllLights()
        self._window = vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(4)
        self._window.SetSize(width, height)
        self._window.AddRenderer(self._renderer)

    def add_mesh(self, mesh: vtkPolyData, picture: np.ndarray | None, specular: float = 0.0, ambient: float = 0.25) -> vtkActor:
        """Add a textured mesh; its actor is returned, so that its shape and place can be changed from frame to frame."""
        mapper = vtkPolyDataMapper()
        mapper.SetInputData(mesh)
        actor = vtkActor()
        actor.SetMapper(mapper)
        if picture is not None:
            actor.SetTexture(texture(picture))
        surface = actor.GetProperty()
        surface.SetAmbient(ambient)
        surface.SetDiffuse(1.0 - ambient)
        surface.SetSpecular(specular)
        surface.SetSpecularPower(18)
        self._renderer.AddActor(actor)
        return actor

    def add_quad(self, corners: np.ndarray, picture: np.ndarray) -> vtkActor:
        """Add a textured rectangle; corners (4, 3) run from lower left counter-clockwise as the picture is seen."""
        uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
        normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
        normals = np.tile(normal / np.linalg.norm(normal), (4, 1))
        return self.add_mesh(polydata(corners, np.array([[0, 1, 2], [0, 2, 3]]), uv, normals), picture, ambient=0.45)

    def add_light(self, position: np.ndarray, intensity: float) -> vtkLight:
        """Add a lamp at a place in the room; it is returned, so that it can go round the patient with the room."""
        light = vtkLight()
        light.SetLightTypeToSceneLight()
        light.SetPositional(True)
        light.SetConeAngle(180)
        light.SetPosition(*position)
        light.SetIntensity(intensity)
        self._renderer.AddLight(light)
        return light

    def render(self, camera: Camera) -> np.ndarray:
        """Return the (H, W, 3) uint8 RGB picture of a camera without distortion and with a centred principal point."""
        view = self._renderer.GetActiveCamera()
        center = camera.center_world
        view.SetPosition(*center)
        view.SetFocalPoint(*(center + camera.rotation[2]))
        view.SetViewUp(*(-camera.rotation[1]))
        view.SetViewAngle(math.degrees(2 * math.atan(0.5 * camera.height / camera.intrinsics[1, 1])))
        self._window.SetSize(camera.width, camera.height)
        self._renderer.ResetCameraClippingRange()
        self._window.Render()
        grabber = vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.ShouldRerenderOff()
        grabber.Update()
        pixels = vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars())
        return pixels.reshape(camera.height, camera.width, -1)[::-1, :, :3].copy()

    def close(self) -> None:
        """Release the graphics memory."""
        self._window.Finalize()


def distort_picture(picture: np.ndarray, pinhole: Camera, distorted: Camera) -> np.ndarray:
    """Resample a pinhole picture as the distorted camera sees it; both share pose and optical axis."""
    x, y = np.meshgrid(np.arange(distorted.width) + 0.5, np.arange(distorted.height) + 0.5)
    # The mapping is smooth: every eighth pixel is solved, the rest interpolated.
    coarse = np.stack([x[::8, ::8].ravel(), y[::8, ::8].ravel()], axis=1)
    source = distorted.normalized(coarse) @ pinhole.intrinsics[:2, :2].T + pinhole.intrinsics[:2, 2] - 0.5
    shape = x[::8, ::8].shape
    # Sample k of the coarse grid lies at pixel 8 k, so look-up is by pixel / 8.
    maps = [
        cv2.remap(
            source[:, axis].reshape(shape).astype(np.float32),
            ((x - 0.5) / 8).astype(np.float32),
            ((y - 0.5) / 8).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for axis in range(2)
    ]
    return cv2.remap(picture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
