"""What the neural surface's stages deliver."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ShapeModelError
from ...core.files import replacing, write_json
from ...geometry.transforms import Similarity
from ...mesh.files import read_mesh, write_ply
from ...mesh.mesh import TriangleMesh

if TYPE_CHECKING:
    from ...neural_surface.network import SurfaceNetwork

_SCENE_FILE, _MESH_FILE, _NUMBERS_FILE = "neural.json", "neural.ply", "extract.json"


@dataclass(frozen=True)
class LearnedBall:
    """What was learned of one ball of space.

    Attributes:
        world_to_ball: from the cameras' world.
        network: distance and colour.
        error: mean difference of its pictures to the given ones, grey levels of 255.
    """

    world_to_ball: Similarity
    network: SurfaceNetwork
    error: float


@dataclass(frozen=True)
class NeuralScene:
    """What was learned, and what should be known of it.

    Attributes:
        folder: where its files are.
        document: content of neural.json.
    """

    folder: Path
    document: dict

    @property
    def start(self) -> str:
        """'sphere', 'places' or 'torso'."""
        return self.document["start"]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        return tuple(self.document["warnings"])

    @cached_property
    def balls(self) -> list[LearnedBall]:
        """The learned balls.

        Raises:
            ShapeModelError: a file is gone or damaged.
        """
        return [self._ball(number, values) for number, values in enumerate(self.document["balls"])]

    def _ball(self, number: int, values: dict) -> LearnedBall:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from ...fields.hash_grid import HashGridSize
        from ...neural_surface.network import SampledStart, SphereStart, SurfaceNetwork, SurfaceNetworkSize

        size = SurfaceNetworkSize(**{**values["size"], "grid": HashGridSize(**values["size"]["grid"])})
        try:
            tensors = load_file(self.folder / _weights(number))
            volume = tensors.get("start.volume")
            start = SphereStart(values["radius"]) if volume is None else SampledStart(volume.numpy(), values["reach"])
            network = SurfaceNetwork(size, start)
            network.load_state_dict(tensors)
        except (SafetensorError, OSError, KeyError, RuntimeError) as error:
            raise ShapeModelError("The learned surface of this case is damaged; run the stage neural again.") from error
        return LearnedBall(Similarity.from_dict(values["world_to_ball"]), network.eval().requires_grad_(False), values["error"])

    @staticmethod
    def save(folder: Path, start: str, balls: list[LearnedBall], warnings: tuple[str, ...]) -> None:
        """Write the networks (safetensors) and one JSON."""
        from safetensors.torch import save_file

        listed: list[dict[str, Any]] = []
        for number, ball in enumerate(balls):
            tensors = {name: value.detach().cpu().contiguous() for name, value in ball.network.state_dict().items()}
            with replacing(folder / _weights(number)) as temporary:
                save_file(tensors, temporary)
            start_values = {"radius": getattr(ball.network.start, "radius", None), "reach": ball.network.start.reach}
            values = {"size": asdict(ball.network.size), **start_values, "error": ball.error}
            listed.append({**values, "world_to_ball": ball.world_to_ball.as_dict()})
        write_json(folder / _SCENE_FILE, {"start": start, "balls": listed, "warnings": warnings})

    @classmethod
    def load(cls, folder: Path) -> NeuralScene:
        """Read what `save` wrote; the networks when they are asked for."""
        return cls(folder, json.loads((folder / _SCENE_FILE).read_text()))


def _weights(number: int) -> str:
    return f"ball-{number}.safetensors"


@dataclass(frozen=True)
class NeuralMesh:
    """The extracted mesh.

    Attributes:
        folder: where its files are.
        numbers: content of extract.json.
    """

    folder: Path
    numbers: dict

    @cached_property
    def mesh(self) -> TriangleMesh:
        """In patient space (mm, RAS), or in world, without a unit, where nothing tells the scale."""
        return read_mesh(self.folder / _MESH_FILE)

    @property
    def file(self) -> Path:
        """The mesh's file."""
        return self.folder / _MESH_FILE

    @staticmethod
    def save(folder: Path, mesh: TriangleMesh, numbers: dict) -> None:
        """Write mesh and numbers."""
        write_ply(folder / _MESH_FILE, mesh)
        write_json(folder / _NUMBERS_FILE, numbers)

    @classmethod
    def load(cls, folder: Path) -> NeuralMesh:
        """Read what `save` wrote."""
        return cls(folder, json.loads((folder / _NUMBERS_FILE).read_text()))
