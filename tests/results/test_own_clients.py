"""Tables of runs whose federated seeds have partitions, and so clients, of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_folders import constant, drawn, rows_of, table, write_run

from fedml_spurious.results.dataset_runs import join_runs
from fedml_spurious.results.finished_run import load_run
from fedml_spurious.results.rows import read_results, write_results

DIGITS: dict[str, Any] = {"source": "digits", "clients": 4}


def made(**partition: Any) -> dict[str, dict[str, Any]]:
    return {"data_args": {"dataset": "colored_mnist", "partition": DIGITS | partition}}


def seed_run(folder: Path, fl_seed: int, *, fingerprint: str | None = None, **changes: Any) -> Path:
    """A run of one federated seed with a partition of its own."""
    more: dict[str, Any] = {"sections": made(seed=None), "p_seeds": (0, 1)} | changes
    values = more.pop("values", drawn)
    return write_run(folder, values, fl_seeds=(fl_seed,), data=fingerprint or f"of {fl_seed}", **more)


def test_runs_of_different_seeds_are_joined_to_what_one_run_of_both_is(tmp_path: Path) -> None:
    runs = [seed_run(tmp_path / f"fl{seed}", seed) for seed in (0, 1)]
    whole = write_run(
        tmp_path / "whole", drawn, fl_seeds=(0, 1), p_seeds=(0, 1), sections=made(seed=None),
        data={0: "of 0", 1: "of 1"},
    )  # fmt: skip
    assert rows_of(*runs) == rows_of(whole)
    # The same partitions with their seeds named.
    named = [seed_run(tmp_path / f"named{seed}", seed, sections=made(seed=seed)) for seed in (0, 1)]
    assert rows_of(*named) == rows_of(whole)
    assert rows_of(runs[0], whole) == rows_of(whole)
    # Made before the run from the same options: its split files are those of the whole run's seed.
    given = seed_run(tmp_path / "given", 1, sections={})
    assert rows_of(given, whole) == rows_of(whole)


def test_the_clients_of_a_seed_may_be_other_ones(tmp_path: Path) -> None:
    """By hand: the disparity minus ours' of ``ft`` is 0.2 with seed 0 and 0.18 with seed 1."""
    runs = [
        seed_run(tmp_path / "first", 0, clients=2, values=constant),
        seed_run(tmp_path / "second", 1, clients=3, values=constant),
    ]
    ft = next(row for row in rows_of(*runs) if row["method"] == "ft")
    assert (ft["clients"], ft["compared_clients"], ft["seed_pairs"]) == ("5", "5", "4")
    assert float(ft["disparity_minus_ours"]) == pytest.approx((0.2 + 0.18) / 2)
    # Clients do not differ, so that the interval is that of two federated seeds.
    assert float(ft["disparity_minus_ours_low"]) == pytest.approx(0.18)
    assert float(ft["disparity_minus_ours_high"]) == pytest.approx(0.2)
    shown = table(*runs).stdout
    assert "client mean of 5 clients" in shown
    assert "clients=4, seed=its own for every federated seed" in " ".join(shown.split())
    alone = table(runs[0]).stdout
    assert "clients=4, seed=null" in " ".join(alone.split())


def test_the_data_tell_whose_clients_they_are_and_not_the_ids(tmp_path: Path) -> None:
    """The same rows; only the fingerprints of the split files differ."""
    joined = {}
    for name, data in (("shared", "abc"), ("own", {0: "of 0", 1: "of 1"})):
        run = write_run(tmp_path / name, drawn, fl_seeds=(0, 1), p_seeds=(0, 1), data=data)
        (found,) = join_runs([load_run(run)])
        joined[name] = found.own_clients, next(row for row in rows_of(run) if row["method"] == "ft")
    assert joined["shared"][0] is False
    assert joined["own"][0] is True
    shared, own = joined["shared"][1], joined["own"][1]
    assert (shared["clients"], own["clients"]) == ("4", "8")
    assert float(shared["disparity_minus_ours"]) == pytest.approx(float(own["disparity_minus_ours"]))
    assert shared["disparity_minus_ours_low"] != own["disparity_minus_ours_low"]
    assert shared["disparity"] == own["disparity"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fl_seed": 0, "fingerprint": "other"}, "the split files of fl0 are not the same"),
        (
            {"fl_seed": 0, "fingerprint": "of 0", "clients": 3},
            "the clients, or their numbers of samples, are",
        ),
        ({"sections": made(clients=5, seed=None)}, "nor made with the same data_args.partition but for its"),
        (
            {"sections": {"data_args": made(seed=None)["data_args"] | {"raw": "here"}}},
            "nor made with the same data_args.partition but for its",
        ),
        ({"sections": {}}, "nor made with the same data_args.partition but for its"),
    ],
)
def test_runs_that_do_not_belong_together(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    first = seed_run(tmp_path / "first", 0)
    second = seed_run(tmp_path / "second", **({"fl_seed": 1} | changes))
    result = table(first, second)
    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr


@pytest.mark.parametrize("seed", [0, 1])
def test_clients_of_every_common_seed_are_compared(tmp_path: Path, seed: int) -> None:
    """The runs have no row in common, whose numbers would differ too."""
    data = {0: "of 0", 1: "of 1"}
    first, second = (
        write_run(
            tmp_path / name, drawn, fl_seeds=(0, 1), data=data, methods=[name], sections=made(seed=None)
        )
        for name in ("ft", "ours")
    )
    assert table(first, second).exit_code == 0
    rows = read_results(second / "results.csv")
    changed = [replace(row, n_train=row.n_train + (row.fl_seed == seed)) for row in rows]
    write_results(second / "results.csv", changed)
    result = table(first, second)
    assert result.exit_code == 2
    expected = f"the clients of fl{seed}, or their numbers of samples, are not the same"
    assert expected in result.stderr


def test_gains_are_over_the_clients_of_the_seed_to_which_a_method_applies(tmp_path: Path) -> None:
    """By hand: ``ft`` applies to client 0 of seed 0 alone, of two clients, and to both of seed 1.

    The global model has 0.5 on client 0 and 0.9 on client 1 of every seed, ``ft`` has 1.0: gains of 0.5 with
    seed 0 and 0.3 with seed 1.
    """

    def values(method: str, fl_seed: int, p_seed: int, client: int) -> tuple[float, float] | None:
        if method == "global":
            return 0.5 + 0.4 * client, 0.5
        return None if (fl_seed, client) == (0, 1) else (1.0, 0.5)

    run = write_run(
        tmp_path / "run", values, fl_seeds=(0, 1), clients=2, methods=("global", "ft"),
        data={0: "of 0", 1: "of 1"}, sections=made(seed=None),
    )  # fmt: skip
    averages = table(run).stdout.partition("gains over the global model")[2]
    (ft,) = [line.split() for line in averages.splitlines() if line.startswith("ft ")]
    assert ft[5] == "+40.00"


def test_split_files_that_are_shared_by_some_seeds_alone_are_no_table(tmp_path: Path) -> None:
    fingerprints = ("one", "one", "other")
    runs = [seed_run(tmp_path / f"r{k}", k, fingerprint=name) for k, name in enumerate(fingerprints)]
    assert table(*runs[:2]).exit_code == 0
    assert table(runs[0], runs[2]).exit_code == 0
    result = table(*runs)
    assert result.exit_code == 2
    assert "of colored_mnist fl0, fl1 share their split files, and fl2 has its own;" in result.stderr


def test_a_run_is_whole_when_every_seed_has_its_own_clients(tmp_path: Path) -> None:
    """Without client 0003 of seed 1, which only a run with a shared partition must have."""
    for name, data, status in (("own", {0: "of 0", 1: "of 1"}, 0), ("shared", "abc", 2)):
        run = write_run(tmp_path / name, drawn, fl_seeds=(0, 1), data=data)
        rows = read_results(run / "results.csv")
        kept = [row for row in rows if (row.fl_seed, row.client) != (1, "0003")]
        write_results(run / "results.csv", kept)
        assert table(run).exit_code == status
        write_results(run / "results.csv", [row for row in kept if row != kept[-1]])
        lacking = table(run)
        assert lacking.exit_code == 2
        assert "has no row of client 000" in lacking.stderr


def test_a_fingerprint_belongs_to_the_seed_of_its_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", drawn, fl_seeds=(5, 2), data={2: "two", 5: "five"})
    assert load_run(run).fingerprints == {2: "two", 5: "five"}
    (run / "global/fl2/identity.json").write_text(json.dumps({"determined_by": {}}))
    assert "identity.json: is broken" in table(run).stderr


def test_averages_and_spread_are_over_the_seeds(tmp_path: Path) -> None:
    """Every pair of seeds counts the same, however many clients it has."""
    runs = [seed_run(tmp_path / f"fl{s}", s, clients=count) for s, count in ((0, 2), (1, 4))]
    for row in rows_of(*runs):
        method = row["method"]
        p_seeds = (0,) if method == "global" else (0, 1)
        means = [
            np.mean([drawn(method, fl_seed, p_seed, client)[0] for client in range(count)])
            for fl_seed, count in ((0, 2), (1, 4))
            for p_seed in p_seeds
        ]
        assert float(row["acc_b"]) == pytest.approx(np.mean(means))
        assert float(row["acc_b_std"]) == pytest.approx(np.std(means, ddof=1))
