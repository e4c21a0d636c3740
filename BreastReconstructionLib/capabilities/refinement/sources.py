"""What the stages take from outside the case, and what is looked at before a long run."""

from __future__ import annotations

from ...core.case import Case
from ...core.errors import OptionError, VideoError
from ...core.files import hash_of_files
from ...core.settings import Settings
from ...measurement.scale import parse_marker
from .stages import EXTRACT, NEURAL


def sources_of_neural(settings: Settings, case: Case) -> dict:
    """Return the masks by their content."""
    folder = settings.of(NEURAL).masks
    if folder is None or not folder.is_dir():
        return {}
    from ...video.pictures import every_picture

    return {"masks": hash_of_files(tuple(every_picture(folder)))}


def check_neural(settings: Settings) -> None:
    """See that masks are there, and come from one place.

    Raises:
        VideoError: the folder is not there, or holds no pictures.
        OptionError: masks are given and to be made.
    """
    options = settings.of(NEURAL)
    if options.masks is None:
        return
    if options.make_masks:
        raise OptionError("Masks are given, and shall be made: leave out --masks or --make-masks.")
    if not options.masks.is_dir():
        raise VideoError(f"The folder of masks {options.masks.name} does not exist; check the path.")
    from ...video.pictures import every_picture

    if not every_picture(options.masks):
        raise VideoError(f"The folder of masks {options.masks.name} holds no pictures; give one mask for each picture.")


def check_extract(settings: Settings) -> None:
    """See that the marker can be read.

    Raises:
        ScaleError: it cannot.
    """
    marker = settings.of(EXTRACT).object_marker
    if marker:
        parse_marker(marker)
