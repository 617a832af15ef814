"""Rows per client, and the table that is derived from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import append_csv, read_csv, tidy_csv, write_csv
from fedml_spurious.common.travelling import travels
from fedml_spurious.results.averages import Spread, client_mean, disparity, spread, weighted_mean
from fedml_spurious.results.method_names import BASELINE, GLOBAL, HEADLINE
from fedml_spurious.results.shares import Shares, shares
from fedml_spurious.results.significance import Difference, Disparities, compare


@travels
@dataclass(frozen=True)
class ClientResult:
    """One row of ``results.csv``: one method, pair of seeds and client. None: does not apply.

    Attributes:
        dataset: name of the data set.
        method: name of the method; ``global`` is the global model as it is.
        fl_seed: seed of the federated step.
        p_seed: seed of the personalization step.
        client: id of the client.
        n_train: training samples.
        n_val: validation samples.
        n_test: samples of the biased test set.
        n_test_bc: samples of the bias-conflicting test set.
        acc_b: accuracy on the biased test set, in [0, 1].
        acc_bc: accuracy on the bias-conflicting test set.
        disparity: ``acc_b - acc_bc``, in [-1, 1].
        loss_b: mean cross-entropy on the biased test set, in nats.
        loss_bc: mean cross-entropy on the bias-conflicting test set.
        acc_adv: accuracy on adversarial examples of the biased test set, made from the global model.
        loss_adv: mean cross-entropy on the same.
        val_acc: accuracy on the validation split.
        selected_epoch: epoch whose model was selected, from 1; 0 where the training diverged: there is no
            model then, and nothing of it is measured.
        eps: budget of the attack: largest change of a pixel, whose values are in [0, 1].
        lam_adv: coefficient of the adversarial term.
        lam_l2: coefficient of the L2 term.
        seconds: time of the personalization in seconds, measurement excluded; an attack on the client is in
            the time of the method that reads it first.
    """

    dataset: str
    method: str
    fl_seed: int
    p_seed: int | None
    client: str
    n_train: int
    n_val: int
    n_test: int
    n_test_bc: int
    acc_b: float | None
    acc_bc: float | None
    disparity: float | None
    loss_b: float | None
    loss_bc: float | None
    acc_adv: float | None
    loss_adv: float | None
    val_acc: float | None
    selected_epoch: int | None
    eps: float | None
    lam_adv: float | None
    lam_l2: float | None
    seconds: float | None

    @property
    def diverged(self) -> bool:
        """Whether there is no model because its training diverged."""
        return self.selected_epoch == DIVERGED


DIVERGED = 0
"""``selected_epoch`` of a personal model that diverged."""

COLUMNS = tuple(field.name for field in fields(ClientResult))
_TEXT = ("dataset", "method", "client")
_SHARES = ("acc_b", "acc_bc", "acc_adv", "val_acc")
_INTEGERS = ("fl_seed", "p_seed", "n_train", "n_val", "n_test", "n_test_bc", "selected_epoch")


def write_results(path: Path, results: Iterable[ClientResult]) -> None:
    """Write rows in the contract's columns, atomically; floats keep every digit."""
    write_csv(path, COLUMNS, [vars(result) for result in results])


def append_result(path: Path, result: ClientResult) -> None:
    """Append a row, which is on the disk when this returns; see :func:`append_csv`."""
    append_csv(path, COLUMNS, [vars(result)])


def tidy_results(path: Path, results: Iterable[ClientResult]) -> None:
    """Write rows as :func:`write_results` does, unless the file has these very bytes already."""
    tidy_csv(path, COLUMNS, [vars(result) for result in results])


def read_results(path: Path, *, grows: bool = False) -> list[ClientResult]:
    """Read what :func:`write_results` and :func:`append_result` wrote.

    Args:
        path: the file.
        grows: whether rows are appended to it, so that half a row at its end is dropped; see
            :func:`read_csv`.

    Raises:
        InputError: the file is absent or is no such table.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the results of a finished run")
    return [parse_row(path, row) for row in read_csv(path, grows=grows)]


def parse_row(path: Path, row: Mapping[str, str]) -> ClientResult:
    """The row in cells that are text, of which there may be more than those of a row.

    Raises:
        InputError: a cell is absent or broken; the text names ``path``.
    """
    try:
        return ClientResult(**{name: _parse(name, row[name]) for name in COLUMNS})
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: broken table ({error}); expected the columns {','.join(COLUMNS)}"
        ) from None


def parse_cell(name: str, cell: str, *, text: Container[str], integers: Container[str]) -> Any:
    """What a cell of column ``name`` holds: text, a whole number, a fraction, or None where it is empty.

    Raises:
        ValueError: it is no number.
    """
    if name in text:
        return cell
    if not cell:
        return None
    return int(cell) if name in integers else float(cell)


def _parse(name: str, cell: str) -> Any:
    value = parse_cell(name, cell, text=_TEXT, integers=_INTEGERS)
    if not isinstance(value, float):
        return value
    if name in _SHARES and not 0 <= value <= 1:
        raise ValueError(f"{name} is {cell}, not from 0 to 1")
    return math.nan if math.isnan(value) else value  # one object, so that a row is equal to its copy


Average = Literal["mean", "weighted"]

Epoch = Literal["selected", "last"]
"""Of which epoch the personal models are."""

RESULT_FILES: Mapping[Epoch, str] = {"selected": "results.csv", "last": "results_last.csv"}


@dataclass(frozen=True)
class MethodSummary:
    """A row of the table. Every value is averaged over clients first and over seeds then.

    Accuracies and ``abs_disparity`` are in [0, 1], ``disparity`` is in [-1, 1].

    Attributes:
        method: name of the method.
        clients: number of clients that have a model of the method; the averages are over them.
        applicable_clients: those, and the clients on which every model diverged.
        diverged_clients: clients on which a model diverged, with one pair of seeds or more.
        conflicting_clients: those of ``clients`` with bias-conflicting samples, over whom Acc_BC and
            disparity are.
        all_clients: number of clients of the run.
        mean: client means (each client counts the same) of acc_b, acc_bc, disparity, abs_disparity, acc_adv.
        weighted: the same weighted by the clients' numbers of test samples.
        shares: what the method keeps of fine-tuning's gain and takes back of its rise in disparity, by how
            clients are pooled; fine-tuning and the global model are averaged over the clients and federated
            seeds of the method.
        against_ours: client mean of the disparity minus that of ``ours``, with its confidence interval; None
            for ``ours`` itself, and where one of the two has no disparity.
    """

    method: str
    clients: int
    applicable_clients: int
    diverged_clients: int
    conflicting_clients: int
    all_clients: int
    mean: Mapping[str, Spread | None]
    weighted: Mapping[str, Spread | None]
    shares: Mapping[Average, Shares]
    against_ours: Difference | None = None

    @property
    def divergence(self) -> str:
        """On how many clients a model diverged, in words; empty where none did."""
        count, of = self.diverged_clients, self.applicable_clients
        return f"{self.method} diverged on {count} of {of} client{'' if of == 1 else 's'}" if count else ""


QUANTITIES = {
    "acc_b": "Acc_B",
    "acc_bc": "Acc_BC",
    "disparity": "Disparity",
    "abs_disparity": "|Disparity|",
    "acc_adv": "Acc_Adv",
}


def summarize(results: Sequence[ClientResult], *, own_clients: bool = False) -> list[MethodSummary]:
    """Average rows per method, in the order in which methods appear.

    ``disparity`` is the difference of the averaged accuracies, both over the clients that have both.
    ``abs_disparity`` is its absolute value for every pair of seeds before the average over seeds, so that
    signs of different runs do not cancel.

    Args:
        results: the rows.
        own_clients: whether every federated seed has clients of its own: a client is then another one than
            that of the same id with another seed.
    """
    methods: dict[str, list[ClientResult]] = {}
    for result in results:
        methods.setdefault(result.method, []).append(result)
    headline = disparities_of(methods.get(HEADLINE, []))
    return [
        MethodSummary(
            method,
            count_clients([row for row in rows if row.acc_b is not None], own_clients),
            count_clients([row for row in rows if row.acc_b is not None or row.diverged], own_clients),
            count_clients([row for row in rows if row.diverged], own_clients),
            count_clients([row for row in rows if row.disparity is not None], own_clients),
            count_clients(rows, own_clients),
            average(rows, "mean"),
            average(rows, "weighted"),
            {how: _shares(rows, methods.get(BASELINE, []), methods.get(GLOBAL, []), how) for how in _POOLS},
            None if method == HEADLINE else compare(disparities_of(rows), headline, own_clients=own_clients),
        )
        for method, rows in methods.items()
    ]


def _shares(
    rows: Sequence[ClientResult],
    fine_tuned: Sequence[ClientResult],
    reference: Sequence[ClientResult],
    how: Average,
) -> Shares:
    """Shares over the clients and federated seeds that all three have; joined runs need not have the same."""
    having = [
        {(row.fl_seed, row.client) for row in found if row.acc_b is not None}
        for found in (rows, fine_tuned, reference)
    ]
    common = set.intersection(*having)
    compared = (
        [row for row in found if (row.fl_seed, row.client) in common]
        for found in (rows, fine_tuned, reference)
    )
    return shares(*(_means(average(found, how)) for found in compared))


def _means(values: Mapping[str, Spread | None]) -> dict[str, float | None]:
    return {name: None if value is None else value.mean for name, value in values.items()}


def who(row: ClientResult, own_clients: bool) -> tuple[str, int | None]:
    """Which client a row is of: its id, and its federated seed where every seed has clients of its own."""
    return row.client, row.fl_seed if own_clients else None


def count_clients(rows: Iterable[ClientResult], own_clients: bool) -> int:
    """Number of different clients; with clients of their own, those of every federated seed."""
    return len({who(row, own_clients) for row in rows})


def disparities_of(rows: Sequence[ClientResult]) -> Disparities:
    """Disparities of one method by pair of seeds and client; clients without one are left out."""
    found: dict[tuple[int, int | None], dict[str, float]] = {}
    for row in rows:
        if row.disparity is not None:
            found.setdefault((row.fl_seed, row.p_seed), {})[row.client] = row.disparity
    return found


def _client_mean(rows: Sequence[ClientResult], name: str) -> float | None:
    return client_mean([getattr(row, name) for row in rows])


def _weighted(rows: Sequence[ClientResult], name: str) -> float | None:
    weight = "n_test_bc" if name == "acc_bc" else "n_test"
    return weighted_mean([getattr(row, name) for row in rows], [getattr(row, weight) for row in rows])


_POOLS: Mapping[Average, Callable[[Sequence[ClientResult], str], float | None]] = {
    "mean": _client_mean,
    "weighted": _weighted,
}


def average(rows: Sequence[ClientResult], how: Average) -> dict[str, Spread | None]:
    """Average the rows of one method over clients first and over pairs of seeds then.

    Args:
        rows: of one method.
        how: ``mean``: every client counts the same; ``weighted``: as many times as it has test samples.

    Returns:
        By quantity; None where no row has a value.
    """
    pool = _POOLS[how]
    runs: dict[tuple[int, int | None], list[ClientResult]] = {}
    for row in rows:
        runs.setdefault((row.fl_seed, row.p_seed), []).append(row)
    pooled = []
    for run in runs.values():
        # A client without a bias-conflicting sample says something of Acc_B, and nothing of the disparity.
        both = [row for row in run if row.disparity is not None]
        gap = disparity(pool(both, "acc_b"), pool(both, "acc_bc"))
        values = {name: pool(run, name) for name in ("acc_b", "acc_bc", "acc_adv")}
        pooled.append(values | {"disparity": gap, "abs_disparity": None if gap is None else abs(gap)})
    return {name: spread([values[name] for values in pooled]) for name in QUANTITIES}
