"""What the user decides for a case: the options of its stages, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import CaseError, OptionError
from .files import write_json
from .options import Option, options_of
from .stage import O, Stage

FILE_NAME = "settings.json"
FORMAT = 1
QUALITIES = ("normal", "draft")
Stages = Iterable[Stage[Any, Any]]


@dataclass(frozen=True)
class Settings:
    """The options of stages, by the stage's name; a stage that is not named has its defaults."""

    options: Mapping[str, Any] = field(default_factory=dict)

    def of(self, stage: Stage[O, Any]) -> O:
        """Return the options of a stage."""
        return self.options.get(stage.name) or stage.options()

    def with_options(self, stage: Stage[O, Any], **values: Any) -> Settings:
        """Return settings in which some options of a stage are others.

        Raises:
            OptionError: no such option, or not such a value.
        """
        own: Any = self.of(stage)
        return replace(self, options={**self.options, stage.name: replace(own, **_checked(stage, values))})

    def with_values(self, stages: Stages, values: Mapping[str, Any]) -> Settings:
        """Return settings in which some options are others, by their names alone.

        Raises:
            OptionError: no stage has such an option, or not such a value.
        """
        stages, left, settings = tuple(stages), dict(values), self
        for stage in stages:
            own = {option.name: left.pop(option.name) for option in options_of(stage.options) if option.name in left}
            settings = settings.with_options(stage, **own) if own else settings
        if left:
            known = [option.name for option in every_option(stages)]
            raise OptionError(f"There is no option '{next(iter(left))}'; the options are {', '.join(known)}.")
        return settings

    def value(self, stage: Stage[Any, Any], option: Option) -> Any:
        """Return the value of one option."""
        return getattr(self.of(stage), option.name)


def every_option(stages: Stages) -> list[Option]:
    """Return the options of stages, in order."""
    return [option for stage in stages for option in options_of(stage.options)]


def quality_values(stages: Stages, quality: str) -> dict[str, Any]:
    """Return what a quality, 'normal' or 'draft', means for the options that differ between the two, by name.

    Raises:
        OptionError: no such quality.
    """
    if quality not in QUALITIES:
        raise OptionError(f"The quality must be {' or '.join(QUALITIES)}, not '{quality}'.")
    differing = (option for option in every_option(stages) if option.draft != option.default)
    return {option.name: option.draft if quality == "draft" else option.default for option in differing}


def write_settings(folder: Path, stages: Stages, settings: Settings) -> None:
    """Write the part of a case's `settings.json` that belongs to these stages; the part of other stages stays.

    Written is what differs from the defaults. Paths within the case are kept relative to it.
    """
    stages = tuple(stages)
    known = {stage.name for stage in stages}
    document = {"format": FORMAT, **{name: own for name, own in _read_document(folder).items() if name not in known}}
    for stage in stages:
        own = {}
        for option in options_of(stage.options):
            value = settings.value(stage, option)
            if value != option.default:
                own[option.name] = _plain(value, folder)
        if own:
            document[stage.name] = own
    write_json(folder / FILE_NAME, document)


def read_settings(folder: Path, stages: Stages, others: bool = False) -> Settings:
    """Read `settings.json` of a case.

    Args:
        folder: the case.
        stages: whose options are wanted.
        others: the file may hold options of other stages, which are left out.

    Raises:
        CaseError: there is none, or it is damaged, or of a newer version.
        OptionError: it names an unknown stage or option, or a value that is of another type or out of range.
    """
    if not (folder / FILE_NAME).is_file():
        raise CaseError(f"The case {folder.name} holds no {FILE_NAME}; run 'reconstruct' with its video first.")
    parts = _read_document(folder)
    settings = Settings()
    for stage in stages:
        values = parts.pop(stage.name, {})
        for option in options_of(stage.options):
            if option.kind is Path and isinstance(values.get(option.name), str):
                values[option.name] = str(folder / values[option.name])  # an absolute path stays what it is
        settings = settings.with_options(stage, **values)
    if parts and not others:
        raise OptionError(f"{folder.name}/{FILE_NAME} names the unknown stage '{next(iter(parts))}'; correct it.")
    return settings


def _read_document(folder: Path) -> dict[str, dict[str, Any]]:
    """Options by stage as they stand in the file; empty if there is none."""
    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        number = int(document.pop("format"))
        parts = {name: dict(values) for name, values in document.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CaseError(f"{folder.name}/{FILE_NAME} is damaged; delete it and give the settings again.") from error
    if number > FORMAT:
        raise CaseError(f"{folder.name}/{FILE_NAME} was written by a newer version of BreastReconstruction; update the program.")
    return parts


def _checked(stage: Stage[Any, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    known = {option.name: option for option in options_of(stage.options)}
    for name in values:
        if name not in known:
            raise OptionError(f"The stage {stage.name} has no option '{name}'; its options are {', '.join(known) or 'none'}.")
    return {name: known[name].checked(value) for name, value in values.items()}


def _plain(value: Any, folder: Path) -> Any:
    """A value as JSON takes it."""
    if isinstance(value, Path):
        path = value.absolute()
        return path.relative_to(folder.absolute()).as_posix() if path.is_relative_to(folder.absolute()) else str(path)
    return list(value) if isinstance(value, tuple) else value
