"""From the options of stages to arguments, and from arguments to settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import OptionError
from .options import Option
from .settings import FILE_NAME, QUALITIES, Settings, Stages, every_option, quality_values, read_settings


def add_options(parser: argparse.ArgumentParser, stages: Stages) -> None:
    """Add the options of stages, and the quality that sets several of them."""
    for option in every_option(stages):
        add_option(parser, option)
    add_quality(parser)


def add_quality(parser: argparse.ArgumentParser) -> None:
    """Add the quality."""
    words = "draft: fewer frames, smaller pictures, a coarser surface; a third of the time, twice the error"
    parser.add_argument("--quality", choices=QUALITIES, default=QUALITIES[0], help=words)


def add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    """Add one option as an argument; what is not given does not appear among the values."""
    words = option.help + _default_words(option)
    how: dict[str, Any] = {"help": words.replace("%", "%%"), "default": argparse.SUPPRESS}
    if not option.flag.startswith("-"):
        parser.add_argument(option.name, type=Path, metavar=option.flag, help=how["help"])
        return
    how["dest"] = option.name
    if option.kind is bool:  # what is on by default can be switched off: --no-…
        action = argparse.BooleanOptionalAction if option.default else "store_true"
        parser.add_argument(option.flag, action=action, **how)
    elif option.choices:
        parser.add_argument(option.flag, choices=tuple(option.choices), **how)
    elif option.kind is tuple:
        parser.add_argument(option.flag, action="append", metavar=option.metavar, **how)
    else:
        parser.add_argument(option.flag, type=argument_type(option), metavar=option.metavar, **how)


def argument_type(option: Option) -> Callable[[str], Any]:
    """Return what reads the text of an option's argument."""

    def parse(text: str) -> Any:
        if option.kind in (int, float):
            try:
                value = option.words[text] if text in option.words else option.kind(text)
                return option.checked(value)
            except (ValueError, OptionError):
                raise argparse.ArgumentTypeError(f"must be {option.range_words}") from None
        return option.checked(Path(text) if option.kind is Path else text)

    return parse


def settings_of(options: argparse.Namespace, stages: Stages) -> Settings:
    """Return the settings that parsed arguments mean; what is not given is the quality's."""
    stages = tuple(stages)
    names = (option.name for option in every_option(stages))
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    return Settings().with_values(stages, {**quality_values(stages, options.quality), **given})


def settings_given(options: argparse.Namespace, folder: Path, stages: Stages) -> Settings:
    """Return a case's own settings, with what the command line gives."""
    stages = tuple(stages)
    own = read_settings(folder, stages, others=True) if (folder / FILE_NAME).is_file() else Settings()
    names = (option.name for option in every_option(stages))
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    quality = {} if options.quality == QUALITIES[0] else quality_values(stages, options.quality)
    return own.with_values(stages, {**quality, **given})


def _default_words(option: Option) -> str:
    if option.kind in (bool, tuple, Path):
        return ""
    unit = f" {option.unit}" if option.unit else ""
    named = next((f"{name}, " for name, value in option.words.items() if value == option.default), "")
    ranged = f"; {option.range_words}" if option.within else ""
    default = f"{option.default:g}" if isinstance(option.default, float) else option.default
    draft = "" if option.draft == option.default else f"; {option.draft:g}{unit} for a draft"
    return f"{ranged} (default {named}{default}{unit}{draft})"
