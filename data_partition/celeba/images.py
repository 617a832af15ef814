"""The aligned and cropped images of CelebA: finding them, and turning one into 64 x 64 pixels.

An image is cut to its central 178 x 178 pixels (rows 20 to 197, as torchvision's ``CenterCrop(178)``) and
resized to 64 x 64 with Pillow's antialiased bilinear filter (as torchvision's ``Resize(64)`` on a Pillow
image). The paper gives the size (table 6), not the way there.
"""

from __future__ import annotations

import functools
import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_partition.celeba.labels import ATTRIBUTES_FILE, image_name
from data_partition.listing import what_is_in
from data_partition.picture_files import UnclearPictureError, opened, rgb
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted

IMAGE_FOLDER = "img_align_celeba"
IMAGE_ZIP = "img_align_celeba.zip"
RAW_SIZE = (178, 218)  # width, height
IMAGE_SIZE = 64
IMAGE_SHAPE = (IMAGE_SIZE, IMAGE_SIZE, 3)

_TOP = (RAW_SIZE[1] - RAW_SIZE[0]) // 2
_CROP = (0, _TOP, RAW_SIZE[0], _TOP + RAW_SIZE[0])  # left, top, right, bottom
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class ImageSource:
    """Where the images are: a folder, or a zip that is read in place.

    Attributes:
        path: the folder or the zip.
        is_zip: whether ``path`` is a zip.
        prefix: folder of the images in the zip, with its slash.
    """

    path: Path
    is_zip: bool
    prefix: str = ""

    def where(self, number: int) -> str:
        """An image as it may be named in a message."""
        return f"{self.path}: {self.prefix}{image_name(number)}" if self.is_zip else str(self.file(number))

    def file(self, number: int) -> Path:
        """Path of an image in the folder."""
        return self.path / image_name(number)

    def read(self, number: int) -> bytes:
        """The bytes of an image file.

        Raises:
            InputError: it is not there or cannot be read.
        """
        try:
            if not self.is_zip:
                return self.file(number).read_bytes()
            return _archive_of_process(self.path, os.getpid()).read(self.prefix + image_name(number))
        except (KeyError, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise InputError(f"{self.where(number)}: cannot be read ({reason}). Download it again") from error


@functools.lru_cache(maxsize=1)
def _archive_of_process(path: Path, pid: int) -> zipfile.ZipFile:
    """The zip, opened once: its table of contents is long. Processes must not share a file position."""
    return _open_zip(path)


def find_images(folder: Path) -> tuple[ImageSource, IndexArray]:
    """Find the images under ``celeba/``: the folder if it is there, else the zip.

    Returns:
        The source, and the numbers of the images that it holds, increasing.

    Raises:
        InputError: there is neither, or the zip is none.
    """
    images, archive = folder / IMAGE_FOLDER, folder / IMAGE_ZIP
    if (images / IMAGE_FOLDER).is_dir():  # as some archives unpack
        images = images / IMAGE_FOLDER
    if images.is_dir():
        return ImageSource(images, is_zip=False), _numbers(path.name for path in images.iterdir())
    if not archive.is_file():
        raise InputError(
            f"{folder}: holds neither {IMAGE_FOLDER}/ nor {IMAGE_ZIP}; {what_is_in(folder)}. Put one of them "
            f"there, or {advice.fetch()}"
        )
    with _open_zip(archive) as opened:
        members = [name for name in opened.namelist() if re.fullmatch(r"(.*/)?\d{6}\.jpg", name)]
    prefix = members[0][: -len(image_name(1))] if members else ""
    inside = (name.removeprefix(prefix) for name in members if name.startswith(prefix))
    return ImageSource(archive, is_zip=True, prefix=prefix), _numbers(inside)


def _numbers(names: Iterator[str]) -> IndexArray:
    found = [int(name[:6]) for name in names if re.fullmatch(r"\d{6}\.jpg", name)]
    return np.array(sorted(found), dtype=np.int64)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        with path.open("rb") as stream:
            start = stream.read(256).lstrip()
        if start[:1] == b"<":
            reason = "is a web page (HTML) and no zip; the host answered with a page instead"
        elif start[:2] == b"PK":
            reason = "is cut short: it starts like a zip and its table of contents is missing"
        else:
            reason = f"is no zip ({error})"
        raise InputError(f"{path}: {reason}. Download it again in a browser, about 1.4 GB") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def describe_missing(source: ImageSource, missing: Sequence[int], total: int) -> str:
    """What to tell about images that the label files describe and the source lacks."""
    names = ", ".join(image_name(number) for number in missing[:_NAMES_SHOWN])
    more = ", ..." if len(missing) > _NAMES_SHOWN else ""
    return (
        f"{source.path}: of {counted(total, 'image')} that the label files describe, {len(missing):,} "
        f"cannot be found ({names}{more}); the first is described in {ATTRIBUTES_FILE}, line {missing[0] + 2}"
    )


def decode(content: bytes, where: str, number: int) -> npt.NDArray[np.uint8]:
    """Crop and resize one image, see the head of this module.

    Args:
        content: the bytes of a JPEG or PNG file of 178 x 218 pixels.
        where: the file, for messages.
        number: of the image, for messages.

    Returns:
        The pixels, shape (64, 64, 3), in 0..255.

    Raises:
        InputError: no image, a damaged one, or one of another size.
    """
    row = f"(described in {ATTRIBUTES_FILE}, line {number + 2})"
    try:
        with opened(io.BytesIO(content)) as image:
            size = image.size
            pixels = rgb(image) if size == RAW_SIZE else image
    except UnclearPictureError as error:
        raise InputError(f"{where} {row}: is no readable image ({error}). Download it again") from error
    if size != RAW_SIZE:
        raise InputError(
            f"{where} {row}: expected {RAW_SIZE[0]} x {RAW_SIZE[1]} pixels, got {size[0]} x {size[1]}. "
            f"Use the aligned and cropped images of {IMAGE_ZIP}"
        )
    return np.asarray(pixels.crop(_CROP).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))
