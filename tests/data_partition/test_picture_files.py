"""Every kind of picture is the right one, or is refused with its name; never a wrong one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from data_partition import picture_files
from data_partition.own_folder import write_folder_splits
from data_partition.picture_files import UnclearPictureError, opened, rgb
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError

GREY = (
    np.linspace(0, 255, 48).round().astype(np.uint8).reshape(6, 8)
)  # dark to bright, upright and not square
COLORS = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)


def saved(image: Image.Image, form: str, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    stream.seek(0)
    return stream


def read(stream: io.BytesIO) -> np.ndarray:
    with opened(stream) as image:
        return np.asarray(rgb(image)).astype(int)


def grey_rgb() -> np.ndarray:
    return np.repeat(GREY[..., None], 3, axis=2).astype(int)


# How a file of this mode is made of GREY or COLORS, and how near its pixels must come to them.
# No file format holds what is not here and is a mode of Pillow.
OF_MODE = {
    "1": (lambda: Image.fromarray(GREY > 127), "PNG", np.where(grey_rgb() > 127, 255, 0), 0),
    "L": (lambda: Image.fromarray(GREY), "PNG", grey_rgb(), 0),
    "P": (lambda: Image.fromarray(GREY).convert("P"), "PNG", grey_rgb(), 0),
    "RGB": (lambda: Image.fromarray(COLORS), "PNG", COLORS, 0),
    "CMYK": (lambda: Image.fromarray(COLORS).convert("CMYK"), "TIFF", COLORS, 1),
    "YCbCr": (lambda: Image.fromarray(COLORS).convert("YCbCr"), "TIFF", COLORS, 3),
    "LA": (lambda: Image.fromarray(GREY).convert("LA"), "PNG", grey_rgb(), 0),
    "RGBA": (lambda: Image.fromarray(COLORS).convert("RGBA"), "PNG", COLORS, 0),
    "I;16": (lambda: Image.fromarray(GREY.astype(np.uint16) * 257), "PNG", grey_rgb(), 0),
    "I;16B": (lambda: Image.fromarray(GREY.astype(">u2") * 257), "TIFF", grey_rgb(), 0),
}


@pytest.mark.parametrize("mode", OF_MODE)
def test_a_picture_of_any_mode_that_says_what_it_shows_is_right(mode: str) -> None:
    make, form, expected, tolerance = OF_MODE[mode]
    assert np.abs(read(saved(make(), form)) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("image", "form", "options", "reason"),
    [
        (Image.fromarray(GREY.astype(np.int32) * 1000), "TIFF", {}, "32-bit whole numbers"),
        (Image.fromarray(GREY.astype(np.float32) / 255), "TIFF", {}, "decimal numbers"),
        (Image.fromarray(COLORS).convert("RGBA").rotate(45), "PNG", {}, "transparent pixels"),
        (Image.fromarray(GREY).convert("P"), "GIF", {"transparency": 0}, "transparent pixels"),
        (
            Image.fromarray(GREY),
            "GIF",
            {"save_all": True, "append_images": [Image.fromarray(255 - GREY)]},
            "2 frames",
        ),
        (
            Image.fromarray(GREY),
            "TIFF",
            {"save_all": True, "append_images": [Image.fromarray(255 - GREY)]},
            "2 frames",
        ),
    ],
)
def test_a_picture_that_does_not_say_what_it_shows_is_refused(
    image: Image.Image, form: str, options: dict[str, object], reason: str
) -> None:
    with pytest.raises(UnclearPictureError, match=reason):
        read(saved(image, form, **options))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_of_a_camera_on_its_side_is_turned(orientation: int) -> None:
    """The EXIF standard, tag 0x0112: where the row 0 and the column 0 of the file belong."""
    stored = {
        1: COLORS, 2: COLORS[:, ::-1], 3: COLORS[::-1, ::-1], 4: COLORS[::-1],
        5: COLORS.swapaxes(0, 1), 6: np.rot90(COLORS), 7: COLORS[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(COLORS, -1),
    }[orientation]  # fmt: skip
    image, exif = Image.fromarray(np.ascontiguousarray(stored)), Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read(saved(image, "PNG", exif=exif)), COLORS)


@pytest.mark.parametrize("cut", [0, 3, 30, 80, 150])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
def test_a_broken_file_of_any_format_is_refused_in_words_or_lacks_no_pixel(form: str, cut: int) -> None:
    whole = saved(Image.fromarray(GREY), form).getvalue()
    try:
        found = read(io.BytesIO(whole[:cut]))
    except UnclearPictureError as error:
        found, reason = None, str(error)
        assert reason
    assert found is None or np.array_equal(found, read(io.BytesIO(whole)))


def test_any_exception_of_a_decoder_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (IndexError("list index"), KeyError(7), MemoryError(), RecursionError(), ValueError()):

        def load(_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(ImageFile.ImageFile, "load", load)
        with pytest.raises(UnclearPictureError, match=r"\w"):
            read(saved(Image.fromarray(GREY), "PNG"))


def test_an_image_folder_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file,label,spurious,client\na.png,0,0,c\n")
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InputError, match=r"a\.png: no readable image \(Image size .* exceeds limit"):
        write_folder_splits(tmp_path / "out", "own", images=tmp_path, table=table, side=4)


def test_sixteen_bits_are_not_clipped_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,label,spurious,client\na.png,0,0,c\n")
    Image.fromarray(GREY[:6, :6].astype(np.uint16) * 257).save(tmp_path / "a.png")
    write_folder_splits(
        tmp_path / "out", "own", images=tmp_path, table=tmp_path / "table.csv", side=6, ratios=(1, 0, 0)
    )
    image = SplitFolder(tmp_path / "out").load("0000", "train").image[0]
    assert np.array_equal(image[..., 0], GREY[:6, :6])


def test_numbers_of_sixteen_bits_become_the_nearest_of_eight() -> None:
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(picture_files._eight_bits(values), np.rint(values / 257).astype(np.uint8))
