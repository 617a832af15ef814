"""Table 1 of the paper as data, to stand beside what a run measured."""

from __future__ import annotations

from dataclasses import dataclass

from fedml_spurious.results.dataset_averages import Accuracies
from fedml_spurious.results.method_names import BASELINE, GLOBAL
from fedml_spurious.results.shares import Shares, shares


@dataclass(frozen=True)
class PaperCell(Accuracies):
    """A cell of the paper's Table 1.

    Attributes:
        spread_b: what the paper prints after the "+-" of Acc_B; it looks like a variance over the nine pairs
            of seeds, and the paper does not say.
        spread_bc: the same of Acc_BC.
    """

    spread_b: float
    spread_bc: float


PAPER_ROUNDS = 500
"""Federated rounds (appendix C.2)."""

TITLES = {
    "colored_mnist": "MNIST",
    "celeba_synthetic": "CelebA-S",
    "celeba_real": "CelebA_R",
    "colored_coil20": "Coil20",
}
"""The paper's names of data sets by ours, in the order of Table 1."""

DIGITS = "scikit-learn's digits"
"""What the small digits are called, of which ``colored_mnist`` can be made and the paper has no values."""


def _row(*cells: tuple[float, float, float, float] | None) -> dict[str, PaperCell | None]:
    """Cells (Acc_B, its +-, Acc_BC, its +-) in the order of ``TITLES``."""
    return {
        name: None if cell is None else PaperCell(cell[0], cell[2], cell[1], cell[3])
        for name, cell in zip(TITLES, cells, strict=True)
    }


_ROWS = {
    # The text of the PDF has ".6e-4" at Acc_B of Coil20; every other cell has one digit before the e.
    "global": _row(
        (0.852, 2e-4, 0.847, 6e-4), (0.930, 5e-5, 0.910, 3e-4),
        (0.909, 6e-5, 0.929, 5e-5), (0.882, 0.6e-4, 0.903, 7e-4),
    ),
    "ft": _row(
        (0.989, 6e-7, 0.704, 3e-4), (0.952, 6e-5, 0.786, 5e-4),
        (0.963, 6e-6, 0.849, 1e-3), (0.931, 1e-4, 0.891, 2e-4),
    ),
    "ditto": _row(
        (0.982, 3e-6, 0.724, 1e-3), (0.948, 5e-5, 0.715, 5e-4),
        (0.966, 1e-5, 0.884, 2e-4), (0.939, 4e-5, 0.897, 3e-4),
    ),
    "uw": _row(
        (0.968, 2e-5, 0.823, 7e-4), (0.930, 7e-6, 0.889, 5e-4), (0.936, 1e-5, 0.895, 4e-4), None,
    ),
    "jtt": _row(
        (0.985, 2e-7, 0.707, 6e-5), (0.952, 2e-6, 0.817, 3e-4), (0.956, 2e-5, 0.836, 1e-3), None,
    ),
    "ours": _row(
        (0.951, 2e-5, 0.870, 8e-4), (0.932, 3e-5, 0.910, 2e-4),
        (0.925, 2e-5, 0.927, 8e-5), (0.901, 3e-4, 0.916, 5e-8),
    ),
}  # fmt: skip

TABLE_1: dict[str, dict[str, PaperCell | None]] = {
    name: {method: cells[name] for method, cells in _ROWS.items()} for name in TITLES
}
"""Cells by data set and method; None is N/A. Methods that the paper lacks are absent."""

COMPARED = ("acc_b", "acc_bc", "disparity", "abs_disparity")
"""Quantities that Table 1 has or that follow from it."""


def paper_values(dataset: str, method: str) -> dict[str, float]:
    """What the paper has for a method.

    Args:
        dataset: our name of the data set.
        method: our name of the method.

    Returns:
        Fractions by quantity, keys of ``COMPARED``; empty where the paper has nothing.
    """
    cell = TABLE_1.get(dataset, {}).get(method)
    if cell is None:
        return {}
    return dict(zip(COMPARED, (cell.acc_b, cell.acc_bc, cell.disparity, abs(cell.disparity)), strict=True))


def paper_shares(dataset: str, method: str) -> Shares:
    """What a method keeps and takes back in the paper; None where the paper has nothing.

    Args:
        dataset: our name of the data set.
        method: our name of the method.
    """
    return shares(*(paper_values(dataset, name) for name in (method, BASELINE, GLOBAL)))
