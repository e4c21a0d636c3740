"""Trained networks on disk: safetensors in half precision, with a JSON card beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import nn

from ..core.errors import ShapeModelError
from ..core.files import hash_of_file, replacing, write_text

FORMAT = 1
WEIGHTS_HASH = "weights_sha256"
N = TypeVar("N", bound=nn.Module)  # network


def save_network(folder: Path, network: nn.Module, card: dict, kind: str) -> Path:
    """Write `<name>.safetensors` and `<name>.json`; returns the path of the former."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{card['name']}.safetensors"
    with replacing(path) as temporary:
        # Half precision halves the file; what it changes is far below what a network errs.
        save_file({key: value.half().contiguous() for key, value in network.state_dict().items()}, temporary)
    write_card(path, {**card, "format": FORMAT, "kind": kind})
    return path


def write_card(path: Path, card: dict) -> None:
    """Write the card beside a file of weights, with their SHA-256."""
    write_text(path.with_suffix(".json"), json.dumps({**card, WEIGHTS_HASH: hash_of_file(path)}, indent=1) + "\n")


def check_weights(path: Path, card: dict) -> None:
    """See that a file of weights is the one that its card was written for; cards of up to 0.12 do not say.

    Raises:
        ValueError: it is another one, or damaged.
    """
    if card.get(WEIGHTS_HASH) not in (None, hash_of_file(path)):
        raise ValueError("the weights are not those of the card")


def load_network(path: Path, kind: str, words: str, build: Callable[[dict], N]) -> tuple[N, dict]:
    """Read what `save_network` wrote.

    Args:
        path: of the .safetensors file.
        kind: that was saved.
        words: for people, what that is: 'network for radiographs'.
        build: the network of a card, without its numbers.

    Returns:
        the network, ready to be asked, and its card.

    Raises:
        ShapeModelError: missing, damaged, or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card_path = path.with_suffix(".json")
    if not path.is_file() or not card_path.is_file():
        raise ShapeModelError(f"The model {path.name} needs both its .safetensors and its .json file; copy both.")
    try:
        card = json.loads(card_path.read_text())
        if card.get("kind") != kind or card.get("format") != FORMAT:
            raise ShapeModelError(f"{path.name} is no {words} of this version; choose another.")
        check_weights(path, card)
        network = build(card)
        network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise ShapeModelError(f"The model {path.name} is damaged; install it again.") from error
    return network.eval().requires_grad_(False), card
