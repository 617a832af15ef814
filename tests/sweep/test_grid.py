"""The grid of a sweep: its cells, their names, and what is refused."""

from __future__ import annotations

import pytest

from fedml_spurious.common.errors import InputError
from fedml_spurious.sweep.grid import cell_name, cells_of, parse_grid


def test_cells_are_all_combinations_in_order() -> None:
    axes = parse_grid(["a_args.x=[1, 2]", "b_args.y=[p, null, 1e-3]"])
    assert [tuple(cell.values()) for cell in cells_of(axes)] == [
        (1, "p"), (1, None), (1, 0.001), (2, "p"), (2, None), (2, 0.001),
    ]  # fmt: skip
    assert cells_of([]) == [{}]


def test_names_tell_cells_apart_and_are_plain() -> None:
    assert cell_name({"a_args.x": 1, "b_args.y": 0.5}) == "x=1,y=0.5"
    assert cell_name({"a_args.x": 1, "b_args.x": 2}) == "a_args.x=1,b_args.x=2"
    odd = [cell_name({"a_args.x": ["../..", number]}) for number in range(3)]
    assert len(set(odd)) == 3
    assert all(name.isalnum() for name in odd)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["train_args.epochs"], "expected section.key="),
        (["epochs=[1]"], "expected section.key="),
        (["train_args.epochs=3"], "expected a list"),
        (["train_args.epochs=[]"], "expected a list"),
        (["train_args.epochs=[1, 1]"], "names 1 twice"),
        (["train_args.epochs=[1"], "broken YAML"),
        (["train_args.epochs=[1]", "train_args.epochs=[2]"], "is given twice"),
        (["experiment_args.fl_seeds=[[0], [1]]"], "seeds are no axis"),
    ],
)
def test_what_is_no_grid_is_refused(texts: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_grid(texts)
