"""Shape models: what they are, which one is used, and their shapes for the panel's sliders."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ...core.commands import Commands
from ...core.console import Console


def add(commands: Commands) -> None:
    """Add the commands."""
    actions = commands.group("model", "shape models")
    info = actions.add("info", "print a model's card", _info)
    info.add_argument("model", type=Path, nargs="?", metavar="MODEL", help=".safetensors file (default: the bundled one)")
    imported = actions.add("import", "convert the official liRBSM checkpoint, which you downloaded", _import)
    imported.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="lirbsm_576.pth")
    imported.add_argument("--anchors", type=Path, required=True, metavar="FILE", help="average_anchors.pt")
    imported.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    words = "answer lines of coefficients with meshes; what the panel's sliders talk to"
    explore = actions.add("explore", words, _explore, reads_input=True)
    explore.add_argument("model", type=Path, nargs="?", metavar="MODEL", help=".safetensors file (default: the bundled one)")
    explore.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="existing folder for the meshes")
    actions.add("list", "name the bundled model and those in your folder", _list)
    default = actions.add("default", "say or choose which model is used where none is given", _default)
    default.add_argument("model", type=Path, nargs="?", metavar="MODEL", help=".safetensors file; none: say which it is")
    default.add_argument("--bundled", action="store_true", help="return to the bundled model")


def _info(options: argparse.Namespace, console: Console) -> None:
    from ...shape_model.model_file import load_model

    model = load_model(options.model)
    card = {key: value for key, value in model.card.items() if key != "network"}
    console.say("\n".join(f"{key}: {value}" for key, value in card.items()), card=model.card)


def _import(options: argparse.Namespace, console: Console) -> None:
    from ...shape_model.model_file import import_official_model, save_model

    path = save_model(options.output, import_official_model(options.checkpoint, options.anchors))
    console.say(f"The model is in {path}; use it with --model {path}.", model=str(path))


def _explore(options: argparse.Namespace, console: Console) -> None:
    """Answer each line of standard input, a JSON list of coefficients, with a mesh in `--output`, until it closes."""
    import numpy as np

    from ...shape_model.explore import Explorer
    from ...shape_model.model_file import load_model

    explorer = Explorer(load_model(options.model))
    console.say("ready", directions=explorer.model.latent_basis.shape[1], card=explorer.model.card["name"])
    for number, line in enumerate(sys.stdin):
        coefficients = np.array(json.loads(line), float)
        shape = explorer.shape(coefficients)
        # Two files in turn: the reader of one is never overtaken.
        path = options.output / f"shape{number % 2}.npz"
        mesh = shape.mesh
        np.savez(path, vertices=mesh.vertices, faces=mesh.faces, normals=mesh.normals, landmarks=shape.landmarks)
        console.say(str(path), file=str(path), coefficients=coefficients.tolist())


def _list(options: argparse.Namespace, console: Console) -> None:
    from ...core.resources import default_model_path, known_models

    default = default_model_path()
    lines = [f"{'*' if path == default else ' '} {path.stem:32s} {path}" for path in known_models()]
    console.say("\n".join([*lines, "* is the default"]), models=[str(path) for path in known_models()], default=str(default))


def _default(options: argparse.Namespace, console: Console) -> None:
    from ...core.resources import TORSO, choose_default_model, default_model_path
    from ...shape_model.model_file import load_model

    if options.bundled:
        choose_default_model(None)
    elif options.model is not None:
        load_model(options.model).required(TORSO)  # a damaged one is refused here
        choose_default_model(options.model)
    console.say(f"The default model is {default_model_path()}.", default=str(default_model_path()))
