"""A picture of client split files: which class comes in which colour, aligned beside conflicting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.samples import Samples
from fedml_spurious.common.storage import atomic_path

_GAP, _MARGIN, _LINE = 3, 10, 14
_LABEL_WIDTH = 150
_MIN_CELL = 40
_BACKGROUND, _EMPTY, _INK = (255, 255, 255), (232, 232, 232), (30, 30, 30)
_PER_KIND = 8


def draw_folder(folder: SplitFolder, path: Path, *, num_clients: int) -> None:
    """Draw the first clients of a folder as PNG.

    Above, one line per client and class, one column per value of the spurious feature, with a training
    sample where there is one. Below, one line per client: aligned test samples, conflicting test samples.

    Args:
        folder: client split files.
        path: of the picture.
        num_clients: how many clients to draw.

    Raises:
        RunError: the picture cannot be written.
    """
    clients = folder.client_ids[:num_clients]
    cell = max(_MIN_CELL, folder.image_shape[0])
    table = _draw_table(folder, clients, cell)
    sheet = _draw_sheet(folder, clients, cell)
    canvas = Image.new("RGB", (max(table.width, sheet.width), table.height + sheet.height), _BACKGROUND)
    canvas.paste(table, (0, 0))
    canvas.paste(sheet, (0, table.height))
    with atomic_path(path) as draft:
        canvas.save(draft, format="PNG")


def _draw_table(folder: SplitFolder, clients: tuple[str, ...], cell: int) -> Image.Image:
    meta = folder.meta
    lines = [(client, y) for client in clients for y in meta.clients[client].classes]
    canvas, pen = _canvas(len(meta.spurious_names), len(lines), cell)
    for value, name in enumerate(meta.spurious_names):
        pen.text((_left(value, cell), _MARGIN), name[: cell // 6], fill=_INK)
    loaded: dict[str, Samples] = {client: folder.load(client, "train") for client in clients}
    for line, (client, y) in enumerate(lines):
        pen.text((_MARGIN, _top(line, cell)), f"client {client}\n{meta.class_names[y][:20]}", fill=_INK)
        samples = loaded[client]
        for value in range(len(meta.spurious_names)):
            rows = np.flatnonzero((samples.label == y) & (samples.spurious == value))
            image = samples.image[rows[0]] if len(rows) else None
            _paste(canvas, image, (_left(value, cell), _top(line, cell)), cell)
    return canvas


def _draw_sheet(folder: SplitFolder, clients: tuple[str, ...], cell: int) -> Image.Image:
    canvas, pen = _canvas(2 * _PER_KIND + 1, len(clients), cell)
    for kind, title in enumerate(("biased test set, aligned", "bias-conflicting test set")):
        pen.text((_left(kind * (_PER_KIND + 1), cell), _MARGIN), title, fill=_INK)
    for line, client in enumerate(clients):
        pen.text((_MARGIN, _top(line, cell)), f"client {client}", fill=_INK)
        test, conflicting = folder.load(client, "test"), folder.load(client, "test_bc")
        for kind, samples in enumerate((test.select(test.aligned == 1), conflicting)):
            for column, image in enumerate(samples.image[:_PER_KIND]):
                _paste(canvas, image, (_left(kind * (_PER_KIND + 1) + column, cell), _top(line, cell)), cell)
    return canvas


def _canvas(columns: int, lines: int, cell: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (_left(columns, cell) + _MARGIN, _top(lines, cell) + _MARGIN), _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.font = ImageFont.load_default(11)
    return canvas, pen


def _left(column: int, cell: int) -> int:
    return _MARGIN + _LABEL_WIDTH + column * (cell + _GAP)


def _top(line: int, cell: int) -> int:
    return _MARGIN + _LINE + line * (cell + _GAP)


def _paste(
    canvas: Image.Image, image: npt.NDArray[np.uint8] | None, place: tuple[int, int], cell: int
) -> None:
    shown = (
        Image.new("RGB", (cell, cell), _EMPTY)
        if image is None
        else Image.fromarray(image).resize((cell, cell), Image.Resampling.NEAREST)
    )
    canvas.paste(shown, place)
