"""Options, declared once: the fields of a frozen dataclass carry what the command line, the panel, the settings, the keys and
the reference page need to know of them.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import OptionError

_DECLARATION = "option"
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path", tuple: "a list of texts"}


@dataclass(frozen=True)
class Option:
    """One option of a stage.

    Attributes:
        name: of the field.
        kind: bool, int, float, str, Path (or None), or tuple (of texts).
        default: its value in a run of normal quality.
        draft: its value in a draft.
        help: what it does, for the command line, the tooltip and the reference page; without a stop at the end.
        unit: of a number, '' for none.
        within: smallest and largest value of a number, or None.
        choices: the texts that may be chosen -> what they mean; empty for any.
        words: names of some values, such as 'fine' for 0.5.
        flag: on the command line, '--remove-unseen', or 'VIDEO' for one without a flag.
        metavar: what stands for its value in the command line's help.
        label: in the panel.
        by_hand: a section of the panel that is written by hand shows it, not the form.
        advanced: shown in the form's folded part.
        in_key: whether its value, if it is not the default, decides what the stage's result is. Paths do by their content,
            which the stage's `sources` tells.
    """

    name: str
    kind: type
    default: Any
    draft: Any
    help: str
    unit: str
    within: tuple[float, float] | None
    choices: Mapping[str, str]
    words: Mapping[str, float]
    flag: str
    metavar: str
    label: str
    by_hand: bool
    advanced: bool
    in_key: bool

    def checked(self, value: Any) -> Any:
        """Return a value of JSON or of a widget as the field's own.

        Raises:
            OptionError: another type, not a choice, or out of range.
        """
        if value is None or (self.kind is Path and value == ""):
            if self.default is None:
                return None
            raise OptionError(f"The option {self.name} needs {_KINDS[self.kind]}.")
        if self.kind is tuple:
            if isinstance(value, str) or not all(isinstance(part, str) for part in value):
                raise OptionError(f"The option {self.name} must be {_KINDS[tuple]}, not {value!r}.")
            return tuple(value)
        if self.kind is Path:
            if not isinstance(value, (str, Path)):
                raise OptionError(f"The option {self.name} must be {_KINDS[Path]}, not {value!r}.")
            return Path(value)
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        self._check_kind(value)
        if self.choices and value not in self.choices:
            raise OptionError(f"The option {self.name} must be one of {', '.join(self.choices)}, not {value!r}.")
        if self.within is not None and not (math.isfinite(value) and self.within[0] <= value <= self.within[1]):
            raise OptionError(f"The option {self.name} must be {self.range_words}, not {value:g}.")
        return value

    def _check_kind(self, value: Any) -> None:
        if type(value) is not self.kind:
            raise OptionError(f"The option {self.name} must be {_KINDS[self.kind]}, not {value!r}.")

    @property
    def range_words(self) -> str:
        """Which values are allowed, in words."""
        if self.within is None:
            return ""
        low, high = self.within
        number = f"from {low:g} to {high:g}{' ' + self.unit if self.unit else ''}"
        return f"{', '.join(self.words)}, or a number {number}" if self.words else number


def option(
    default: Any,
    *,
    help: str,
    draft: Any = None,
    unit: str = "",
    within: tuple[float, float] | None = None,
    choices: Mapping[str, str] | None = None,
    words: Mapping[str, float] | None = None,
    flag: str = "",
    metavar: str = "",
    label: str = "",
    by_hand: bool = False,
    advanced: bool = False,
    in_key: bool = True,
) -> Any:
    """Declare a field of an options dataclass; see Option. A draft of None means the default."""
    declared = {
        "help": help,
        "draft": default if draft is None else draft,
        "unit": unit,
        "within": within,
        "choices": choices or {},
        "words": words or {},
        "flag": flag,
        "metavar": metavar,
        "label": label,
        "by_hand": by_hand,
        "advanced": advanced,
        "in_key": in_key,
    }
    return dataclasses.field(default=default, metadata={_DECLARATION: declared})


def options_of(options: type) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, in order."""
    return _declared(options)


@lru_cache(None)
def _declared(options: Any) -> tuple[Option, ...]:
    hints = typing.get_type_hints(options)
    found = []
    for field in dataclasses.fields(options):
        declared = dict(field.metadata[_DECLARATION])
        words = field.name.replace("_", " ")
        declared["flag"] = declared["flag"] or "--" + field.name.replace("_", "-")
        declared["label"] = declared["label"] or words[0].upper() + words[1:]
        found.append(Option(name=field.name, kind=_kind(hints[field.name]), default=field.default, **declared))
    return tuple(found)


def option_named(options: type, name: str) -> Option:
    """Return one option that a dataclass declares."""
    return next(option for option in options_of(options) if option.name == name)


def _kind(hint: Any) -> type:
    """bool, int, float, str, Path or tuple of an annotation such as `Path | None` or `tuple[str, ...]`."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    kind = typing.get_origin(hint) or hint
    if kind not in _KINDS:
        raise TypeError(f"options cannot be of the type {hint}")
    return kind
