"""Looks into a folder of client split files: what they hold, whether they are sound, and a picture.

Run as ``python -m data_partition.inspect DIR [--check]``.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from data_partition.split_files.check import find_problems
from data_partition.split_files.diagnostics import client_table, describe_shortcut
from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.pictures import draw_folder
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.cli_errors import Command, friendly
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted

_SHOWN_PROBLEMS = 20


def association(label: IndexArray, spurious: IndexArray) -> float:
    """Cramer's V of the class and the spurious feature (Cramer 1946, Sec. 21.9).

    Args:
        label: classes, shape (n,).
        spurious: values of the spurious feature, shape (n,).

    Returns:
        0 where they are independent, 1 where one determines the other; NaN where one of them is constant.
    """
    _, rows = np.unique(label, return_inverse=True)
    _, columns = np.unique(spurious, return_inverse=True)
    if not len(label) or not rows.max() or not columns.max():
        return float("nan")
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    expected: npt.NDArray[np.float64] = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    chi_squared = ((table - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi_squared / table.sum() / (min(table.shape) - 1)))


def summarize_arrays(folder: SplitFolder) -> str:
    """Sizes, groups and correlation strength of every split, measured from the arrays."""
    meta = folder.meta
    lines = [
        f"{folder.name}: {counted(meta.num_clients, 'client')}, {counted(meta.num_classes, 'class')}, "
        f"{counted(len(meta.spurious_names), 'spurious value')}, images "
        f"{'x'.join(map(str, folder.image_shape))}",
        f"{'split':8}{'samples':>9}{'per client':>16}{'aligned':>9}{'V in clients':>14}{'V overall':>11}",
    ]
    for split in ("train", "val", "test", "test_bc"):
        loaded = (folder.load(client_id, split) for client_id in folder.client_ids)
        lines.append(_summarize_split(split, [(s.label, s.spurious, s.aligned) for s in loaded]))
    lines.append("V: association of class and spurious feature (Cramer), 0 none, 1 complete")
    if meta.personalized_clients is not None:
        lines.append(f"clients to personalize: {', '.join(meta.personalized_clients) or 'none'}")
    return "\n".join([*lines, *describe_shortcut(meta), *meta.remarks()])


def _summarize_split(split: str, clients: list[tuple[IndexArray, IndexArray, npt.NDArray[np.uint8]]]) -> str:
    sizes = [len(label) for label, _, _ in clients]
    label, spurious, aligned = (np.concatenate(column) for column in zip(*clients, strict=True))
    within = [v for v in (association(y, a) for y, a, _ in clients) if not np.isnan(v)]
    return (
        f"{split:8}{sum(sizes):>9,}{f'{min(sizes)} - {max(sizes)}':>16}{_number(aligned):>9}"
        f"{_number(within):>14}{_number([association(label, spurious)]):>11}"
    )


def _number(values: npt.ArrayLike) -> str:
    array = np.asarray(values, dtype=float)
    return "-" if not array.size or np.isnan(array).any() else f"{array.mean():.3f}"


@click.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="which data set, where the folder holds several")
@click.option("--check", is_flag=True, help="check ranges, sources, alignment flags and copies too")
@click.option(
    "--png", type=click.Path(path_type=Path), help="picture, by default NAME_samples.png in the folder"
)
@click.option("--clients", default=4, show_default=True, type=click.IntRange(min=1), help="clients to draw")
@click.option("--by-client", is_flag=True, help="a line per client: what the spurious feature tells there")
@friendly
def command(
    folder: Path, name: str | None, check: bool, png: Path | None, clients: int, by_client: bool
) -> None:
    """Say what client split files hold, draw some of it, and with --check make sure that they are sound.

    Checksums are always checked.
    """
    splits = SplitFolder(folder, name=name)
    click.echo(summarize_arrays(splits))
    if by_client:
        click.echo("\n".join(client_table(splits.meta)))
    if check:
        problems = list(find_problems(splits))
        if problems:
            shown = "\n".join(problems[:_SHOWN_PROBLEMS])
            raise InputError(f"{folder}: {counted(len(problems), 'problem')}\n{shown}")
        click.echo("checked: checksums, ranges, disjoint sources, alignment flags, bias-conflicting copies")
    png = png or folder / f"{splits.name}_samples.png"
    draw_folder(splits, png, num_clients=clients)
    click.echo(png)


if __name__ == "__main__":
    command()
