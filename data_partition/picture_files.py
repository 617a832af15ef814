"""Picture files as people have them, as RGB pixels in 0..255: the right picture, or the reason why not.

Pillow clips what does not fit into 8 bits, shows what transparent pixels hide, and leaves pictures of cameras
on their side. Here a picture is scaled by its range, turned upright, or refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from fedml_spurious.common.words import counted

# Their further pictures are previews or layers of the first.
_ONE_PICTURE = ("MPO", "PSD")
_PER_STEP = 257  # 65535 / 255
_WITHOUT_RANGE = {"I": "32-bit whole numbers", "F": "decimal numbers"}


class UnclearPictureError(ValueError):
    """A file that is no picture, or not clearly one; the text says why."""


@contextmanager
def opened(file: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open a picture file.

    Args:
        file: its path, or its content.

    Yields:
        The picture, upright, not yet decoded.

    Raises:
        UnclearPictureError: Pillow cannot read it, or finds it too large.
    """
    try:
        with warnings.catch_warnings():
            # It warns of half the size that it refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                yield image
    except UnclearPictureError:
        raise
    except MemoryError:
        raise UnclearPictureError("it is too large for the memory of this machine") from None
    except Exception as error:  # decoders raise whatever broken bytes lead them to
        text = " ".join(str(error).split())
        known = "no known image format" if isinstance(error, UnidentifiedImageError) else text
        raise UnclearPictureError(known or type(error).__name__) from error


def rgb(image: Image.Image) -> Image.Image:
    """A picture in mode RGB, upright as its EXIF orientation says.

    Args:
        image: of any mode of Pillow. 16-bit values are scaled by their range, 0..65535.

    Raises:
        UnclearPictureError: it has several frames, transparent pixels, or values of no known range.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _ONE_PICTURE:
        raise UnclearPictureError(f"it has {counted(frames, 'frame')}; give each a file of its own")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(upright))).convert("RGB")
    if upright.mode == "I" and image.format == "PNG":  # how some versions of Pillow open 16 bits
        return Image.fromarray(_eight_bits(np.asarray(upright))).convert("RGB")
    if upright.mode in _WITHOUT_RANGE:
        raise UnclearPictureError(
            f"its pixels are {_WITHOUT_RANGE[upright.mode]} (mode {upright.mode}), and nothing says which of "
            "them is black and which is white; save it with 8 or 16 bits"
        )
    if upright.has_transparency_data:
        alpha = upright.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            raise UnclearPictureError("it has transparent pixels; save it on the background that it needs")
        upright = upright.convert("RGBA")
    return upright.convert("RGB")


def _eight_bits(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Values in 0..65535 as the nearest in 0..255, of any shape."""
    return ((values.astype(np.int64) + _PER_STEP // 2) // _PER_STEP).astype(np.uint8)
