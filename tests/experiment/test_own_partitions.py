"""``partition.seed: null``: every federated seed has clients, splits and colour maps of its own."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import Finished, client_events, invoke, read_rows, without_time

import fedml_spurious as fs
from data_partition.partition import Partition
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.experiment import federated_step

SEEDS = (3, 5)
FILES = [f"colored_mnist_{split}.h5" for split in ("train", "val", "test", "test_bc")]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """Everything that reads data has something to do."""
    return {
        "data_args": {
            "dataset": "colored_mnist",
            "partition": {
                "source": "digits", "clients": 4, "classes_per_client": 3, "limit": 240, "seed": None,
            },
        },
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 2, "comm_round": 2, "epochs": 1, "batch_size": 16, "learning_rate": 0.001,
        },
        "validation_args": {"frequency_of_the_test": 1},
        "personalization_args": {"epochs": 1, "batchnorm": "recalibrate"},
        "attack_args": {"steps": 2},
        "experiment_args": {"methods": ["global", "ft", "ours"], "fl_seeds": list(SEEDS)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def own(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("own") / "run"
    found = Finished(folder, config, invoke(config, folder))
    assert found.result.exit_code == 0, found.result.output
    return found


def with_seed(config: dict[str, Any], partition_seed: int | None, fl_seeds: list[int]) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    changed["data_args"]["partition"]["seed"] = partition_seed
    changed["experiment_args"]["fl_seeds"] = fl_seeds
    return changed


def test_clients_maps_and_split_files_differ_between_seeds(own: Finished) -> None:
    maps, files = [], []
    for seed in SEEDS:
        part = own.folder / f"data/fl{seed}"
        meta = json.loads((part / "colored_mnist_meta.json").read_text())
        assert meta["seed"] == seed
        maps.append([(client["classes"], client["color_map"]) for client in meta["clients"].values()])
        files.append([(part / name).read_bytes() for name in FILES])
    assert all(one != other for one, other in zip(*maps, strict=True))
    assert all(one != other for one, other in zip(*files, strict=True))
    assert sorted(path.name for path in (own.folder / "data").iterdir()) == ["fl3", "fl5"]
    assert "every federated seed with a partition of its own" in own.result.output
    assert "Client mean of 8 clients" in own.result.output


def test_it_is_what_runs_with_that_seed_given_are(own: Finished, tmp_path: Path) -> None:
    rows = {name: without_time(own.folder, name) for name in ("results.csv", "results_last.csv")}
    for seed in SEEDS:
        folder = tmp_path / f"given{seed}"
        assert invoke(with_seed(own.config, seed, [seed]), folder).exit_code == 0
        for name, found in rows.items():
            assert [row for row in found if row["fl_seed"] == str(seed)] == without_time(folder, name)
        for name in FILES:
            path = own.folder / f"data/fl{seed}" / name
            assert path.read_bytes() == (folder / "data" / name).read_bytes()
        for name in ("model.pt", "recalibrated.pt", "rounds.csv", "budget.json", "identity.json"):
            part = Path("global") / f"fl{seed}" / name
            assert (own.folder / part).read_bytes() == (folder / part).read_bytes()


def test_null_is_kept_and_read_back_and_another_seed_is_another_run(own: Finished, tmp_path: Path) -> None:
    written = yaml.safe_load((own.folder / "config.yaml").read_text())
    assert written["data_args"]["partition"] == own.config["data_args"]["partition"]
    before = (own.folder / "results.csv").read_bytes()
    assert invoke(written, own.folder, "--resume").exit_code == 0
    assert (own.folder / "results.csv").read_bytes() == before
    for seed, shown in ((0, "0"), ("absent", "'absent'")):
        other = with_seed(own.config, None, list(SEEDS))
        other["data_args"]["partition"] |= {"seed": seed}
        if seed == "absent":
            del other["data_args"]["partition"]["seed"]
        refused = invoke(other, own.folder, "--resume")
        assert refused.exit_code == 2
        assert f"data_args.partition.seed: was null, is {shown}" in refused.output


def test_a_seed_that_is_given_is_shared_and_lies_where_it_lay(config: dict[str, Any], tmp_path: Path) -> None:
    """The absent seed is 0; ``--set`` makes it null, which is another run."""
    absent = with_seed(config, 0, [0, 1])
    absent["train_args"]["comm_round"] = 1
    absent["experiment_args"]["methods"] = ["global"]
    del absent["data_args"]["partition"]["seed"]
    folder = tmp_path / "run"
    assert invoke(absent, folder).exit_code == 0
    assert sorted(path.name for path in (folder / "data").iterdir()) == sorted(
        [*FILES, "colored_mnist_meta.json"]
    )
    assert "seed" not in yaml.safe_load((folder / "config.yaml").read_text())["data_args"]["partition"]
    data = {
        json.loads((folder / f"global/fl{seed}/identity.json").read_text())["determined_by"]["data"]
        for seed in (0, 1)
    }
    assert data == {SplitFolder(folder / "data").fingerprint}
    refused = invoke(absent, folder, "--resume", "--set", "data_args.partition.seed=null")
    assert refused.exit_code == 2
    assert "data_args.partition.seed: was 'absent', is null" in refused.output


@pytest.mark.parametrize("killed_in", ["partition", "training"])
def test_a_run_killed_between_two_seeds_goes_on_to_the_same_rows(
    killed_in: str, own: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, train = Partition.build, federated_step.train_global_model

    def build_first(self: Partition[Any], options: Any, **named: Any) -> Path:
        if options.seed == SEEDS[1]:
            raise KeyboardInterrupt
        return build(self, options, **named)

    def train_first(run: Any, fl_seed: int, bar: Any) -> Any:
        if fl_seed == SEEDS[1]:
            raise KeyboardInterrupt
        return train(run, fl_seed, bar)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        if killed_in == "partition":
            patch.setattr(Partition, "build", build_first)
        else:
            patch.setattr(federated_step, "train_global_model", train_first)
        assert invoke(own.config, folder).exit_code == 130
    assert (folder / "data/fl3/colored_mnist_meta.json").exists()
    assert not (folder / "global/fl5/model.pt").exists()
    again = invoke(own.config, folder, "--resume")
    assert again.exit_code == 0, again.output
    assert without_time(folder) == without_time(own.folder)
    for name in ("table.csv", "table.md"):
        assert (folder / name).read_bytes() == (own.folder / name).read_bytes()


def test_a_seed_may_join_later_and_gets_its_own_partition(own: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert invoke(with_seed(own.config, None, [SEEDS[0]]), folder).exit_code == 0
    assert len(client_events(folder)) == 4 * 3
    assert invoke(own.config, folder, "--resume").exit_code == 0
    assert without_time(folder) == without_time(own.folder)
    assert len(client_events(folder)) == 2 * 4 * 3


def test_every_seed_personalizes_the_clients_that_its_partition_names(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CelebA_R: the draw decides who has enough blond males. Tuning looks at the first seed's client."""
    for folder in ("data_partition", "data_partition/celeba"):  # where the makers of small raw folders are
        monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / folder))
    from celeba_raw import small_labels, write_raw

    celeba = copy.deepcopy(config)
    celeba["data_args"] = {
        "dataset": "celeba_real",
        "raw": str(write_raw(tmp_path / "raw", small_labels())),
        "partition": {
            "identities_per_client": 3, "ratios": "50:20:30", "train_blond_females_above": 1,
            "test_blond_males_above": 0, "seed": None,
        },
    }  # fmt: skip
    celeba["model_args"] = {"model": "cnn_64x64", "fc_width": 8}
    celeba["train_args"]["comm_round"] = 1
    celeba["personalization_args"] = {"epochs": 1}
    celeba["experiment_args"] = {
        "methods": ["global", "ft", "l2"], "fl_seeds": [3, 2], "personalization_seeds": [0, 1],
        "grids": {"l2": {"lam_l2": [0.1, 1.0]}}, "tuning_reference": "global",
    }  # fmt: skip
    result = invoke(celeba, tmp_path / "run")
    assert result.exit_code == 0, result.output
    named = {}
    for seed in (3, 2):
        meta = json.loads((tmp_path / f"run/data/fl{seed}/celeba_real_meta.json").read_text())
        named[seed] = meta["personalized_clients"]
    assert [len(named[3]), len(named[2])] == [1, 3]
    rows = read_rows(tmp_path / "run/results.csv")
    assert [(row["method"], row["fl_seed"], row["p_seed"], row["client"]) for row in rows] == [
        (method, str(seed), p_seed, client)
        for method in ("global", "ft", "l2")
        for seed in (3, 2)
        for p_seed in ([""] if method == "global" else ["0", "1"])
        for client in named[seed]
    ]
    # global and ft on 4 clients, and l2, with one trial more of the first seed's client than is in its rows.
    work = 4 + 2 * 4 + 2 * 4 + 1
    assert len(client_events(tmp_path / "run")) == work
    assert f"Personal models: {work}/{work}" in result.output
    assert "1 to 3 clients x 2 methods besides the global model x 4 pairs of seeds" in result.output
    budgets = [json.loads((tmp_path / f"run/global/fl{s}/budget.json").read_text()) for s in (3, 2)]
    assert [budget["clients"] for budget in budgets] == [named[3], named[2]]
    table = list(csv.DictReader((tmp_path / "run/table.csv").open()))
    assert {row["clients"] for row in table} == {"4"}


def test_a_choice_for_a_client_of_another_partition_is_refused(
    config: dict[str, Any], tmp_path: Path
) -> None:
    changed = copy.deepcopy(config)
    changed["experiment_args"]["tuning"] = "client"
    refused = invoke(changed, tmp_path / "run")
    assert refused.exit_code == 2
    assert "experiment_args.tuning: client chooses with the first federated seed" in refused.output
    assert not (tmp_path / "run").exists()


def test_a_partition_that_does_not_fit_is_named_by_its_seed(own: Finished, tmp_path: Path) -> None:
    changed = copy.deepcopy(own.config)
    changed["data_args"]["partition"]["ratios"] = "80:0:20"
    refused = invoke(changed, tmp_path / "run")
    assert refused.exit_code == 2
    assert "colored_mnist of fl3: client 0000 has no sample" in refused.output


def test_a_program_gets_the_splits_of_a_seed(own: Finished) -> None:
    run = fs.Run(own.folder)
    assert run.splits is run.splits_of(3)
    assert run.splits_of(5).fingerprint == SplitFolder(own.folder / "data/fl5").fingerprint
    with pytest.raises(fs.InputError, match="no federated seed 4; it has 3, 5"):
        run.splits_of(4)
    tests = fs.load_test_data(run.splits_of(5), "0001", torch.device("cpu"))
    # The row "global" is of the recalibrated model.
    model = run.global_model(5)
    model.load_state_dict(torch.load(own.folder / "global/fl5/recalibrated.pt", weights_only=True))
    model.eval()
    with torch.no_grad():
        right = (model(tests.biased.x).argmax(dim=1) == tests.biased.y).double().mean()
    (row,) = [
        row
        for row in without_time(own.folder)
        if (row["method"], row["fl_seed"], row["client"]) == ("global", "5", "0001")
    ]
    assert float(row["acc_b"]) == pytest.approx(float(right))
    assert run.client("0001", fl_seed=5).data is run.splits_of(5)
