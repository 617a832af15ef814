"""Your own data as client split files, from arrays and from an image folder with a CSV table.

Draws small discs and squares whose colour goes with the shape, differently on each of three clients, writes
them both ways and reads one client back. Run: python examples/own_data.py [FOLDER]
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from PIL import Image

from data_partition.own import write_splits
from data_partition.own_folder import write_folder_splits
from data_partition.split_files.folder import SplitFolder

SHAPES = ("disc", "square")
COLORS = {"red": (255, 0, 0), "blue": (0, 0, 255)}
SIDE = 28


def draw(shape: int, color: int, rng: np.random.Generator) -> np.ndarray:
    """One image, uint8, shape (28, 28, 3): a disc (0) or a square (1) at a random place."""
    row, column = np.indices((SIDE, SIDE)) - rng.integers(10, 18, size=2)[:, None, None]
    distance = np.hypot(row, column) if SHAPES[shape] == "disc" else np.maximum(abs(row), abs(column))
    return (distance[..., None] < 8) * np.array(list(COLORS.values())[color], dtype=np.uint8)


def make_samples(num_samples: int = 600) -> dict[str, np.ndarray]:
    """Images of three clients: "b" exchanges the colours, and 1 in 5 samples is an exception."""
    rng = np.random.default_rng(0)
    client = rng.choice(["a", "b", "c"], size=num_samples)
    label = rng.integers(2, size=num_samples)
    exception = rng.random(num_samples) < 0.2
    spurious = label ^ (client == "b") ^ exception
    image = np.stack([draw(y, a, rng) for y, a in zip(label, spurious, strict=True)])
    return {"image": image, "label": label, "spurious": spurious, "client": client}


def save_as_folder(samples: dict[str, np.ndarray], folder: Path) -> Path:
    """The same samples as PNG files and a table with names instead of numbers; returns the table."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = folder / "table.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "spurious", "client"])
        for number, image in enumerate(samples["image"]):
            file = f"{number:03d}.png"
            Image.fromarray(image).save(folder / "images" / file)
            shape, color = samples["label"][number], samples["spurious"][number]
            writer.writerow([file, SHAPES[shape], list(COLORS)[color], samples["client"][number]])
    return table


def main(folder: Path) -> None:
    """Write the splits both ways and show what one client holds."""
    samples = make_samples()
    names = {"class_names": SHAPES, "spurious_names": list(COLORS)}
    write_splits(folder / "arrays", "shapes", overwrite=True, **names, **samples)
    table, images = save_as_folder(samples, folder / "raw"), folder / "raw" / "images"
    write_folder_splits(folder / "from_csv", "shapes", images=images, table=table, side=SIDE, overwrite=True)

    splits = SplitFolder(folder / "arrays")
    for client_id in splits.client_ids:
        train = splits.load(client_id, "train")
        click.echo(
            f"client {client_id}: {len(train)} training samples, {train.aligned.mean():.0%} of them aligned; "
            f"{splits.count(client_id, 'test_bc')} bias-conflicting test samples"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
        click.echo(f"in an experiment: data_args: {{dataset: shapes, data_cache_dir: {sys.argv[1]}/arrays}}")
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
