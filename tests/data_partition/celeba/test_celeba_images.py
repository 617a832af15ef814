import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from celeba_raw import flat_image, write_images, write_zip
from image_bytes import encode

from data_partition.celeba.images import decode, find_images
from fedml_spurious.common.errors import InputError


def _slow_resize(pixels: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Antialiased bilinear: a triangle as wide as two output pixels, along one axis and then the other."""
    scale = len(pixels) / size
    weights = np.zeros((size, len(pixels)))
    for i in range(size):
        for j in range(len(pixels)):
            weights[i, j] = max(0.0, 1 - abs((j + 0.5) - (i + 0.5) * scale) / scale)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("ij,jkc,lk->ilc", weights, pixels, weights)


def test_an_image_is_cropped_to_its_centre_and_resized_without_aliasing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    expected = _slow_resize(pixels[20:198].astype(np.float64), 64)
    actual = decode(encode(pixels, "PNG"), "here", 1)
    assert actual.shape == (64, 64, 3)
    assert actual.dtype == np.uint8
    assert np.abs(actual - expected).max() <= 1  # Pillow rounds after each axis


def test_a_grey_image_gets_three_equal_channels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (218, 178), dtype=np.uint8)
    actual = decode(encode(pixels, "PNG"), "here", 1)
    assert (actual == actual[..., :1]).all()


def test_folder_and_zip_give_the_same_bytes(tmp_path: Path) -> None:
    write_images(tmp_path / "a", [1, 2, 5])
    write_zip(tmp_path / "b", [5, 2, 1])
    folder, in_folder = find_images(tmp_path / "a")
    archive, in_archive = find_images(tmp_path / "b")
    assert in_folder.tolist() == in_archive.tolist() == [1, 2, 5]
    assert not folder.is_zip
    assert archive.is_zip
    for number in (1, 2, 5):
        assert folder.read(number) == archive.read(number) == flat_image(number)


def _jpeg(size: tuple[int, int] = (178, 218)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encode(pixels, "JPEG")


BAD_IMAGES = {
    "web page": (b"<html>quota exceeded</html>", "no readable image .no known image format"),
    "empty": (b"", "no readable image"),
    "cut short": (_jpeg()[:2000], "no readable image .*truncated"),
    "cut in the header": (_jpeg()[:100], "no readable image"),
    "damaged PNG": (flat_image(1)[:60] + b"\0" * 20 + flat_image(1)[80:], "no readable image"),
    "in the wild": (_jpeg((409, 687)), "expected 178 x 218 pixels, got 409 x 687"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_a_bad_image_is_named_with_its_line(case: str) -> None:
    content, reason = BAD_IMAGES[case]
    with pytest.raises(InputError, match=rf"^x/000007.jpg \(.*list_attr_celeba.txt, line 9\): .*{reason}"):
        decode(content, "x/000007.jpg", 7)


def test_without_folder_and_zip_nothing_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither img_align_celeba/ nor img_align_celeba.zip.*--download"):
        find_images(tmp_path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _: b"\n<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", "web page"),
        (lambda content: content[: len(content) // 2], "cut short"),
        (lambda _: b"", "is no zip"),
        (lambda _: b"\x1f\x8b" + b"x" * 100, "is no zip"),
    ],
)
def test_what_is_no_zip_is_explained(tmp_path: Path, damage, reason: str) -> None:
    path = write_zip(tmp_path, [1, 2])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=f"img_align_celeba.zip: .*{reason}"):
        find_images(tmp_path)


def test_a_damaged_member_of_a_zip_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path, [1, 2])
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("img_align_celeba/000002.jpg").header_offset
    content = bytearray(path.read_bytes())
    content[start + 100] ^= 0xFF
    path.write_bytes(content)
    source, _ = find_images(tmp_path)
    with pytest.raises(InputError, match=r"celeba.zip: img_align_celeba/000002.jpg: cannot be read"):
        source.read(2)


def test_a_vanished_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, [1, 2])
    source, _ = find_images(tmp_path)
    source.file(2).unlink()
    with pytest.raises(InputError, match=r"000002\.jpg: cannot be read"):
        source.read(2)


def test_a_folder_in_a_folder_of_its_name_is_found_and_what_is_there_instead_is_told(tmp_path: Path) -> None:
    write_images(tmp_path, [1, 2])
    (tmp_path / "img_align_celeba").rename(tmp_path / "inner")
    with pytest.raises(InputError, match=r"holds neither .*; it holds inner/\."):
        find_images(tmp_path)
    (tmp_path / "img_align_celeba").mkdir()
    (tmp_path / "inner").rename(tmp_path / "img_align_celeba" / "img_align_celeba")
    source, numbers = find_images(tmp_path)
    assert numbers.tolist() == [1, 2]
    assert source.read(1)
