"""Draw what probes do to images of one client.

    python examples/probe_pictures.py [FILE.png]

A row per probe: the colour, a region, and a function of one's own. Twice in each: an image, its donor, which
is an image of another class of the client, and the image with the attribute of the donor.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import fedml_spurious as fs
from data_partition.colored_mnist import Options, build
from fedml_spurious.analysis.probes import choose_donors, find_probe, transfer_all

LIGHT = ("salmon", "pistachio", "lavender", "lemon", "orchid", "ice", "amber", "white")  # as the quickstart
BOX, TOP, LEFT, SIDE = "1,27,23,27", 1, 23, 4  # the box at the right that the marks are in
SEED, CLIENT = 0, 5
TITLES = ("image", "donor", "probed")


def brightness(image: Tensor, donor: Tensor, generator: np.random.Generator) -> Tensor:
    """A probe of one's own: the image becomes as bright as the donor, by their brightest pixels."""
    return image * (donor.max() / image.max().clamp(min=1e-6))


def as_it_is(x: Tensor, place: Tensor) -> Tensor:
    """The client's images, whose colour goes with the class."""
    return x


def marked(x: Tensor, place: Tensor) -> Tensor:
    """Dim grey images with a white mark at the right, whose place goes with the class."""
    x = x.amax(dim=1, keepdim=True).expand_as(x) * 0.6
    for image, number in zip(x, place.tolist(), strict=True):
        row = TOP + number * (SIDE + 1)
        image[:, row : row + SIDE, LEFT : LEFT + SIDE] = 1.0
    return x


def exposed(x: Tensor, place: Tensor) -> Tensor:
    """Grey images, the brighter the later their class."""
    return x.amax(dim=1, keepdim=True).expand_as(x) * (0.25 + 0.75 * place / place.max())[:, None, None, None]


ROWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "colour": as_it_is,
    f"region:{BOX}": marked,
    "probe_pictures:brightness": exposed,
}


def client_images() -> tuple[Tensor, Tensor]:
    """Biased test images of a client of the quickstart, shape (N, 3, 28, 28), and their classes."""
    chosen = {"clients": 10, "classes_per_client": 5, "palette": LIGHT, "bias_conflicting_fraction": 0.0}
    options = Options(source="digits", seed=SEED, **chosen)
    with tempfile.TemporaryDirectory() as folder:
        build(options, raw=None, out=Path(folder))
        found = fs.load_test_data(fs.SplitFolder(Path(folder)), f"{CLIENT:04d}", torch.device("cpu")).biased
    return found.x, found.y


def examples() -> dict[str, list[tuple[Tensor, Tensor, Tensor]]]:
    """By probe: images with their donors and what the probe made of them, as the audit makes them."""
    x, y = client_images()
    classes, place = y.unique(return_inverse=True)
    donors = choose_donors(y, seed=SEED, client=CLIENT, donors=1)
    rows = [int((y == label).nonzero()[0]) for label in (classes[0], classes[-1])]
    found = {}
    for name, change in ROWS.items():
        images = change(x, place)
        probed = transfer_all(name, find_probe(name), images, donors, seed=SEED, client=CLIENT)
        found[name] = [(images[row], images[donors[row, 0]], probed[row, 0]) for row in rows]
    return found


def draw(found: dict[str, list[tuple[Tensor, Tensor, Tensor]]]) -> Figure:
    """A row per probe, three images per example."""
    count = len(next(iter(found.values())))
    widths = [1.9, 1, 1, 1] + [0.25, 1, 1, 1] * (count - 1)
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    grid = figure.add_gridspec(len(found), 4 * count, width_ratios=widths)
    for line, (name, pictures) in enumerate(found.items()):
        label = figure.add_subplot(grid[line, 0])
        words = name.replace(":", ":\n")
        label.text(0, 0.5, f"--probe\n{words}", va="center", fontsize=9, family="monospace")
        label.axis("off")
        for number, pair in enumerate(pictures):
            for step, (title, image) in enumerate(zip(TITLES, pair, strict=True), start=1):
                axes = figure.add_subplot(grid[line, 4 * number + step])
                axes.imshow(image.permute(1, 2, 0), interpolation="nearest", vmin=0, vmax=1)
                axes.axis("off")
                if not line:
                    axes.set_title(title, fontsize=9)
    return figure


def main(path: str = "probes.png") -> None:
    """Draw them into a file."""
    draw(examples()).savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
