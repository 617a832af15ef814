"""The raw views of COIL-20, from the folder or from the zip of it.

COIL-20, processed (Nene, Nayar and Murase 1996, CUCS-005-96): 20 objects on a turntable, 72 views each, 5
degrees apart, 128x128 grey, background black; for research without commercial use.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_partition.colored.federation import GreyImages
from data_partition.listing import what_is_in
from data_partition.picture_files import UnclearPictureError, opened
from fedml_spurious.common import advice
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.words import counted

NUM_OBJECTS = 20
NUM_VIEWS = 72
_RAW_SIDE = 128
_FOLDER = "coil-20-proc"
_ARCHIVE = f"{_FOLDER}.zip"
_SHOWN = 5
_UNPROCESSED = ("coil-20-unproc", "coil-20-unproc.zip")
_UNPROCESSED_OBJECTS = 5
_OTHER_EDITION = (
    f"is the unprocessed COIL-20, with 5 of the {NUM_OBJECTS} objects; the processed one is needed. Put "
    f"{_ARCHIVE} or its folder there"
)
_PIXELS_SHA256 = "7274cbacb79ea6c57340827c9f9301745a8e9b3173dea4aa828e00b49c42946c"
_MIRRORS = (
    "https://www.cs.columbia.edu/CAVE/databases/SLAM_coil-20_coil-100/coil-20/",
    "https://cave.cs.columbia.edu/old/databases/SLAM_coil-20_coil-100/coil-20/",
)


def read_coil20(raw: Path) -> GreyImages:
    """Read all 1,440 views from ``raw/coil-20-proc``, ``raw/coil-20-proc.zip``, or ``raw`` being either.

    Returns:
        Views of 64x64 pixels; class is the object, source is 72 * object + view, both from 0.

    Raises:
        InputError: a view is missing, unreadable or of another size, or the zip is damaged.
    """
    names = [f"obj{thing + 1}__{view}.png" for thing in range(NUM_OBJECTS) for view in range(NUM_VIEWS)]
    grey = np.stack([_decode(where, content) for where, content in _read_files(raw, names)])
    label = np.repeat(np.arange(NUM_OBJECTS), NUM_VIEWS)
    return GreyImages(
        grey=halve(grey),
        label=label,
        source=np.arange(len(names)),
        class_names=tuple(f"object {thing + 1}" for thing in range(NUM_OBJECTS)),
        checksums={f"{_FOLDER} (pixels of {len(names)} views)": hashlib.sha256(grey.tobytes()).hexdigest()},
    )


def explain_checksum(raw: GreyImages) -> tuple[str, ...]:
    """A note where the pixels are not those of the copy that this package was made with."""
    if _PIXELS_SHA256 in raw.checksums.values():
        return ()
    return ("the raw views differ from the copy of COIL-20 that this package was tested with",)


def halve(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Half the size by the mean of each 2x2 block, halves up: (n, 2H, 2W) to (n, H, W)."""
    blocks = grey.astype(np.uint16)
    total = blocks[:, ::2, ::2] + blocks[:, 1::2, ::2] + blocks[:, ::2, 1::2] + blocks[:, 1::2, 1::2]
    return np.asarray((total + 2) // 4, dtype=np.uint8)


def _read_files(raw: Path, names: list[str]) -> list[tuple[str, bytes]]:
    """Name to show and content of every file, in the order of ``names``."""
    for folder in (raw / _FOLDER, raw / _FOLDER / _FOLDER, raw):
        if folder.is_dir() and any(folder.glob("obj*__*.png")):
            _require_all({path.name for path in folder.iterdir()}, names, folder)
            return [(str(folder / name), _read(folder / name)) for name in names]
    archive = raw if raw.is_file() else raw / _ARCHIVE
    if archive.is_file():
        return _read_archive(archive, names)
    other = next((name for name in _UNPROCESSED if (raw / name).exists()), "")
    if other:
        raise InputError(f"{raw / other}: {_OTHER_EDITION}, or {advice.fetch()}")
    raise InputError(
        f"{raw}: no COIL-20; looked for {_FOLDER}/obj1__0.png and the like and for {_ARCHIVE}; "
        f"{what_is_in(raw)}. Put one of them there, or {advice.fetch()}"
    )


def _read_archive(archive: Path, names: list[str]) -> list[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {Path(member).name: member for member in opened.namelist()}
            _require_all(set(members), names, archive)
            return [(f"{archive}: {name}", opened.read(members[name])) for name in names]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        with archive.open("rb") as stream:
            is_page = stream.read(256).lstrip()[:1] == b"<"
        reason = "a web page, not a zip file" if is_page else f"cut short or damaged ({error})"
        raise InputError(f"{archive}: {reason}; delete it and fetch it again") from error


def _require_all(present: set[str], names: list[str], where: Path) -> None:
    missing = [name for name in names if name not in present]
    objects = {name.partition("__")[0] for name in present if "__" in name and name.startswith("obj")}
    if objects == {f"obj{number}" for number in range(1, _UNPROCESSED_OBJECTS + 1)}:
        raise InputError(f"{where}: {_OTHER_EDITION}, or {advice.fetch()}")
    if missing:
        first = ", ".join(missing[:_SHOWN])
        raise InputError(
            f"{where}: lacks {len(missing):,} of {counted(len(names), 'view')} ({first}"
            f"{', ...' if len(missing) > _SHOWN else ''}); fetch COIL-20 again"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _decode(where: str, content: bytes) -> npt.NDArray[np.uint8]:
    try:
        with opened(io.BytesIO(content)) as image:
            if image.size != (_RAW_SIDE, _RAW_SIDE) or image.mode != "L":
                raise InputError(
                    f"{where}: {image.width}x{image.height} pixels of mode {image.mode}, expected "
                    f"{_RAW_SIDE}x{_RAW_SIDE} grey (mode L); fetch COIL-20 again"
                )
            return np.asarray(image)
    except UnclearPictureError as error:
        raise InputError(f"{where}: no readable image ({error}); fetch COIL-20 again") from error


def download_coil20(raw: Path) -> None:
    """Fetch the zip into ``raw`` with torchvision, unless COIL-20 is there.

    Raises:
        RunError: no server gave it.
    """
    # Torchvision imports torch, which only a download needs.
    from torchvision.datasets.utils import download_url

    if (raw / _FOLDER).is_dir() or (raw / _ARCHIVE).exists():
        return
    failures = []
    for mirror in _MIRRORS:
        draft = raw / f".{_ARCHIVE}.partial"
        try:
            download_url(mirror + _ARCHIVE, raw, draft.name)
            _read_archive(draft, [])
            draft.replace(raw / _ARCHIVE)
            return
        except (OSError, RuntimeError, InputError) as error:
            failures.append(f"{mirror}: {error}")
        finally:
            draft.unlink(missing_ok=True)
    raise RunError(
        f"{raw / _ARCHIVE}: cannot be fetched ({'; '.join(failures)}). Try again later, "
        "or put the file there by hand"
    )
