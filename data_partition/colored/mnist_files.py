"""The raw digits: MNIST's idx files in torchvision's layout, or the small ones inside scikit-learn.

MNIST (LeCun, Cortes and Burges 1998): 70,000 handwritten digits, 28x28 grey; CC BY-SA 3.0.
Digits (Alpaydin and Kaynak 1998, UCI 10.24432/C50P49, test part as in scikit-learn): 1,797 handwritten
digits, 8x8 with 17 grey values; CC BY 4.0.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_partition.colored.federation import GreyImages
from data_partition.listing import what_is_in
from fedml_spurious.common import advice
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.common.words import counted

NUM_CLASSES = 10
SIDE = 28
_TRAIN_ROWS, _TEST_ROWS = 60_000, 10_000
_PARTS = {"train": ("train", 0, _TRAIN_ROWS), "test": ("t10k", _TRAIN_ROWS, _TEST_ROWS)}
_DIGIT_SIDE, _DIGIT_LEVELS = 8, 16

# SHA-256 of the unpacked files: a repacked .gz has other bytes and the same digits.
_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def read_mnist(raw: Path, parts: tuple[str, ...], *, verify: bool) -> GreyImages:
    """Read the idx files, packed or unpacked, from ``raw/MNIST/raw``, ``raw/raw`` or ``raw``.

    Args:
        raw: where they are.
        parts: of ``train`` and ``test``.
        verify: refuse files that are not MNIST's (other data in the same format passes without).

    Returns:
        The digits; sources are rows of the training file, and rows of the test file plus 60,000.

    Raises:
        InputError: a file is missing, broken, or not MNIST's.
    """
    folder = _find_folder(raw)
    images, labels, sources, checksums = [], [], [], {}
    for part in parts:
        prefix, first, expected_rows = _PARTS[part]
        arrays = []
        for kind, shape in (("images-idx3", (SIDE, SIDE)), ("labels-idx1", ())):
            name = f"{prefix}-{kind}-ubyte"
            path, content = _read_unpacked(folder, name)
            checksums[name] = hashlib.sha256(content).hexdigest()
            if verify and checksums[name] != _SHA256[name]:
                raise InputError(_explain_difference(path, content, expected_rows, shape))
            arrays.append(_parse_idx(path, content, shape))
        if len(arrays[0]) != len(arrays[1]):
            raise InputError(
                f"{folder}: {counted(len(arrays[0]), 'image')} and {counted(len(arrays[1]), 'label')} "
                f"of {prefix}"
            )
        images.append(arrays[0])
        labels.append(_require_digits(arrays[1], folder / f"{prefix}-labels-idx1-ubyte"))
        sources.append(np.arange(first, first + len(arrays[0])))
    return GreyImages(
        grey=np.concatenate(images),
        label=np.concatenate(labels),
        source=np.concatenate(sources),
        class_names=tuple(str(digit) for digit in range(NUM_CLASSES)),
        checksums=checksums,
    )


def _require_digits(labels: npt.NDArray[np.uint8], path: Path) -> npt.NDArray[np.int64]:
    if len(labels) and labels.max() >= NUM_CLASSES:
        raise InputError(f"{path}: label {labels.max()} in row {labels.argmax()}; expected 0 to 9")
    return labels.astype(np.int64)


def _find_folder(raw: Path) -> Path:
    candidates = (raw / "MNIST" / "raw", raw / "raw", raw)
    for folder in candidates:
        if any(_find_file(folder, name) for name in _SHA256):
            return folder
    looked = ", ".join(str(folder) for folder in candidates)
    raise InputError(
        f"{raw}: no MNIST files; looked for train-images-idx3-ubyte.gz and the like in {looked}; "
        f"{what_is_in(raw)}. Put them there, {advice.fetch()}, or use the digits inside scikit-learn with "
        f"{advice.option('source', 'digits')}"
    )


def _find_file(folder: Path, name: str) -> Path | None:
    """A file under its authors' name, packed or not, or with a dot as many copies have it.

    Kaggle packs it into a folder of the same name.
    """
    names = [f"{stem}{end}" for stem in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    places = [folder / one for one in names]
    places += [folder / outer / inner for outer in names for inner in names]
    return next((place for place in places if place.is_file()), None)


def _read_unpacked(folder: Path, name: str) -> tuple[Path, bytes]:
    path = _find_file(folder, name)
    if path is None:
        raise InputError(f"{folder / name}.gz: missing, {what_is_in(folder)}; {advice.fetch()}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if path.suffix != ".gz":
        return path, content
    try:
        return path, gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        if content.lstrip()[:1] == b"<":
            raise InputError(f"{path}: a web page, not a gzip file; delete it and fetch it again") from error
        raise InputError(f"{path}: cut short or damaged ({error}); delete it and fetch it again") from error


def _explain_difference(path: Path, content: bytes, rows: int, shape: tuple[int, ...]) -> str:
    expected = 4 + 4 * (1 + len(shape)) + rows * int(np.prod(shape, dtype=int))
    reason = (
        f"{counted(len(content), 'byte')} unpacked, expected {expected:,}: cut short or another file"
        if len(content) != expected
        else "damaged or other data: its checksum is not MNIST's"
    )
    other = advice.option("verify_raw", "false")
    return f"{path}: {reason}; fetch it again (or, for other data in MNIST's format, add {other})"


def _parse_idx(path: Path, content: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Parse an idx file of bytes with rows of ``shape``: magic number, sizes (big-endian), values."""
    num_dims = 1 + len(shape)
    header = 4 + 4 * num_dims
    if len(content) < header or content[:4] != bytes([0, 0, 8, num_dims]):
        raise InputError(f"{path}: no idx file of bytes with {counted(num_dims, 'dimension')}")
    rows, *sizes = np.frombuffer(content, ">u4", count=num_dims, offset=4).tolist()
    if tuple(sizes) != shape:
        raise InputError(f"{path}: images of {'x'.join(map(str, sizes))}, expected {SIDE}x{SIDE}")
    values = np.frombuffer(content, np.uint8, offset=header)
    if len(values) != rows * int(np.prod(shape, dtype=int)):
        raise InputError(
            f"{path}: cut short or too long: {counted(len(values), 'byte of values')} for "
            f"{counted(rows, 'row')}"
        )
    return values.reshape(rows, *shape)


def read_digits() -> GreyImages:
    """The 1,797 digits inside scikit-learn, enlarged from 8x8 to 28x28; sources are its rows."""
    from sklearn.datasets import load_digits  # 1 s to import, and only this source needs it

    bunch = load_digits()
    small = bunch.images.astype(np.int64)
    label = bunch.target.astype(np.int64)
    checksum = hashlib.sha256(small.tobytes() + label.tobytes()).hexdigest()
    return GreyImages(
        grey=enlarge_digits(small),
        label=label,
        source=np.arange(len(label)),
        class_names=tuple(str(digit) for digit in range(NUM_CLASSES)),
        checksums={"sklearn.datasets.load_digits": checksum},
    )


def enlarge_digits(small: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Bilinear enlargement in integers, so that every machine gives the same bytes.

    Args:
        small: values 0..16, shape (n, 8, 8).

    Returns:
        uint8 in 0..255, shape (n, 28, 28).
    """
    # The centre of pixel i lies at (i + 1/2) * 8/28 - 1/2 = (4 i - 5) / 14 small pixels.
    weights = np.zeros((SIDE, _DIGIT_SIDE), dtype=np.int64)
    for row in range(SIDE):
        left, share = divmod(4 * row - 5, 14)
        weights[row, max(left, 0)] += 14 - share
        weights[row, min(left + 1, _DIGIT_SIDE - 1)] += share
    scaled = weights @ small @ weights.T
    whole = _DIGIT_LEVELS * 14 * 14
    return ((scaled * 255 + whole // 2) // whole).astype(np.uint8)


def download_mnist(raw: Path) -> None:
    """Fetch the four files into ``raw/MNIST/raw`` with torchvision; files that are there stay.

    Raises:
        RunError: no server gave them.
    """
    # Torchvision imports torch, which only a download needs.
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import check_integrity, download_url

    folder = raw / "MNIST" / "raw"
    for name, md5 in MNIST.resources:
        if (folder / name).exists() or (folder / Path(name).stem).exists():
            continue
        failures = []
        for mirror in MNIST.mirrors:
            try:
                download_url(mirror + name, folder, name, md5)
            except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong checksum RuntimeError
                failures.append(f"{mirror}: {error}")
            if check_integrity(folder / name, md5):
                break
            (folder / name).unlink(missing_ok=True)
        else:
            raise RunError(
                f"{folder / name}: cannot be fetched ({'; '.join(failures)}). Try again later, "
                "put the file there by hand, or use the digits inside scikit-learn with --source digits"
            )
