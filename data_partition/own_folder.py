"""An image folder with a CSV table as client split files.

Run as ``python -m data_partition.own_folder --images DIR --table FILE.csv --name NAME --out DIR``. The table
has a header line and the columns ``file``, ``label``, ``spurious``, ``client`` and perhaps ``split``.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from data_partition.columns import by_number
from data_partition.command import summarize
from data_partition.options import Ratios
from data_partition.own_arrays import Images, write_splits
from data_partition.picture_files import UnclearPictureError, opened, rgb
from data_partition.split_files.meta import MAX_SIDE, SPLITS
from fedml_spurious.common.advice import advising_a_command
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.cli_errors import Command, friendly
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted

_DIGITS = 18  # of a number; longer ones are names
_COLUMNS = ("file", "label", "spurious", "client")


def write_folder_splits(
    out: Path,
    name: str,
    *,
    images: Path,
    table: Path,
    side: int,
    ratios: tuple[int, int, int] = (72, 8, 20),
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write the images that a table lists as client split files; see :func:`data_partition.own.write_splits`.

    Args:
        out: folder for the split files.
        name: of the data set.
        images: folder of the image files.
        table: CSV file; labels and spurious values may be numbers from 0 or names, which are numbered in
            order (numbers by value, others by the alphabet).
        side: height and width to which the images are resized (antialiased bilinear).
        ratios: train:val:test on every client, where the table has no column ``split``.
        seed: of the draw.
        overwrite: replace splits of this name made with other options.

    Returns:
        Path of the description.

    Raises:
        InputError: the table is malformed, or an image is missing or unreadable; names file and line.
        RunError: the files could not be written.
    """
    rows, notes = _read_table(table, images)
    label, class_names = _number([row["label"] for row in rows])
    spurious, spurious_names = _number([row["spurious"] for row in rows])

    def read(chosen: IndexArray) -> Images:
        return np.stack([_read_image(images / rows[row]["file"], side) for row in chosen.tolist()])

    return write_splits(
        out,
        name,
        image=read,
        label=label,
        spurious=spurious,
        client=[row["client"] for row in rows],
        split=[row["split"] for row in rows] if "split" in rows[0] else None,
        class_names=class_names,
        spurious_names=spurious_names,
        ratios=ratios,
        seed=seed,
        notes=notes,
        overwrite=overwrite,
    )


def _read_table(table: Path, images: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The rows, without blanks around their cells, and notes on what was stripped."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets write a byte order mark
            reader = csv.DictReader(stream)
            header = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            lines = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise InputError(f"{table}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: no CSV table in UTF-8 ({error})") from error
    absent = [column for column in _COLUMNS if column not in header]
    if absent or not lines:
        raise InputError(
            f"{table}: line 1: expected the columns {', '.join(_COLUMNS)} and a line per image, got "
            f"{', '.join(header) or 'nothing'}"
        )
    stripped: dict[str, list[int]] = {}
    for line, row in lines:
        for column in (*_COLUMNS, "split"):
            cell = row.get(column)
            # A file may bear a name with a blank at its end.
            if cell is None or (column == "file" and (images / cell).is_file()) or cell == cell.strip():
                continue
            row[column] = cell.strip()
            stripped.setdefault(column, []).append(line)
        _check_row(row, f"{table}: line {line}", images)
    notes = [
        f"blanks around the {column} were stripped in {counted(len(found), 'line')} of {table.name}, first "
        f"in line {found[0]}"
        for column, found in stripped.items()
    ]
    return [row for _, row in lines], notes


def _check_row(row: dict[str, str | None], where: str, images: Path) -> None:
    empty = [column for column in _COLUMNS if not row[column]]
    if empty or None in row:
        raise InputError(f"{where}: {f'no {empty[0]}' if empty else 'more cells than the header names'}")
    if row.get("split", SPLITS[0]) not in SPLITS:
        raise InputError(f"{where}: split {row['split']!r}; expected {', '.join(SPLITS)}")
    if not (images / str(row["file"])).is_file():
        raise InputError(f"{where}: {images / str(row['file'])}: no such file")


def _number(cells: Sequence[str]) -> tuple[IndexArray, tuple[str, ...] | None]:
    """Numbers of the cells and, where these are names, the names in the order of the numbers."""
    if all(cell.isdecimal() and len(cell) <= _DIGITS for cell in cells):
        return np.array([int(cell) for cell in cells]), None
    names = sorted(set(cells), key=by_number)
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[cell] for cell in cells], np.int64), tuple(names)


def _read_image(path: Path, side: int) -> Images:
    try:
        with opened(path) as image:
            return np.asarray(rgb(image).resize((side, side), Image.Resampling.BILINEAR))
    except UnclearPictureError as error:
        raise InputError(f"{path}: no readable image ({error})") from error


@click.command(cls=Command)
@click.option("--images", type=click.Path(path_type=Path), required=True, help="folder of the image files")
@click.option(
    "--table", type=click.Path(path_type=Path), required=True, help="CSV: file,label,spurious,client"
)
@click.option("--name", required=True, help="name of the data set")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="folder for the split files")
@click.option(
    "--side", type=click.IntRange(1, MAX_SIDE), default=64, show_default=True, help="height and width"
)
@click.option("--ratios", default="72:8:20", show_default=True, help="train:val:test on every client")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="seed of the draw")
@click.option("--overwrite", is_flag=True, help="replace splits of the same name")
@friendly
def command(
    images: Path, table: Path, name: str, out: Path, side: int, ratios: str, seed: int, overwrite: bool
) -> None:
    """Turn an image folder with a CSV table (file,label,spurious,client[,split]) into client split files."""
    with advising_a_command():
        path = write_folder_splits(
            out,
            name,
            images=images,
            table=table,
            side=side,
            ratios=TypeAdapter(Ratios).validate_python(ratios),
            seed=seed,
            overwrite=overwrite,
        )
    click.echo(summarize(path))


if __name__ == "__main__":
    command()
