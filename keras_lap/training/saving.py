"""Files are written beside older ones, and take their place once they are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ENDINGS = (".keras", ".h5", ".hdf5", ".json")


@contextlib.contextmanager
def replacing(
    filepath: Any, overwrite: bool = True, is_folder: bool = False
) -> Iterator[Any]:
    """Where to write a file, or several, that is to be found at `filepath`.

    What is written there takes the place of older files at the end, one by one and each
    at once; after an exception they stay as they are. A process
    that is killed leaves them as they were, and a hidden folder beside them.

    What is not on a local disk, or may not be replaced, is written where it belongs.

    Args:
        filepath: As Keras takes it.
        overwrite: False where Keras is to ask before it writes over a file.
        is_folder: Whether a folder is written. Other files in it stay.

    Yields:
        A path of the same name.
    """
    asks = not overwrite and os.path.exists(filepath)
    if asks or not _can_be_replaced(filepath, is_folder):
        yield filepath
        return
    # A link stays one, and a file takes another's place on one disk only.
    real = Path(os.path.realpath(filepath))
    with tempfile.TemporaryDirectory(prefix=f".{real.name}-", dir=real.parent) as own:
        yield os.path.join(own, Path(filepath).name)
        written = [path for path in Path(own).rglob("*") if path.is_file()]
        # Last what names the others, as of weights in several files.
        for path in sorted(written, key=lambda path: path.suffix == ".json"):
            place = Path(filepath).parent / path.relative_to(own)
            place = Path(os.path.realpath(place))
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                shutil.copymode(place, path)
            path.replace(place)


def _can_be_replaced(filepath: Any, is_folder: bool) -> bool:
    """Whether it is a name that Keras takes, and may be written beside and replaced."""
    if not isinstance(filepath, str | os.PathLike):
        return False
    if not (is_folder or str(filepath).endswith(_ENDINGS)):
        return False  # Keras says what it should be
    path = Path(os.path.realpath(filepath))
    folder = path.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return False
    ordinary = path.is_dir() if is_folder else path.is_file()
    return not path.exists() or (ordinary and os.access(path, os.W_OK))
