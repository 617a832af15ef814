"""What diverges is noticed where it arises, and is never a number in a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import Finished, invoke, read_rows

METHODS = ("nan_loss", "infinite_weight", "huge_weights")
MEASURED = ("acc_b", "acc_bc", "disparity", "loss_b", "loss_bc", "acc_adv", "loss_adv", "val_acc")


@pytest.fixture(scope="module")
def diverged(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Methods that diverge in every place, on one client or all; ``ours`` in Adam's squares."""
    config: dict[str, Any] = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "small_network:cnn", "fc_width": 8},
        "train_args": {"client_num_per_round": 2, "comm_round": 1, "epochs": 1, "batch_size": 16},
        "personalization_args": {
            "epochs": 1, "learning_rate": 0.001, "trajectory_interval": 1, "save_models": True,
        },
        "attack_args": {"steps": 1},
        "experiment_args": {
            "methods": ["global", "ft", "ours", *(f"diverging_methods:{name}" for name in
                        ("NanLoss", "InfiniteWeight", "HugeWeights"))],
            "grids": {"ours": {"lam_adv": [1.0, 1e38]}},
            "tuning_tolerance": 1.0,
        },
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("diverged") / "run"
    return Finished(folder, config, invoke(config, folder))


def rows_of(folder: Path, method: str) -> dict[str, dict[str, str]]:
    return {row["client"]: row for row in read_rows(folder / "results.csv") if row["method"] == method}


def test_a_personal_model_that_diverges_is_a_row_that_says_so(diverged: Finished) -> None:
    folder, _, result = diverged
    assert result.exit_code == 0, result.output
    everyone = {f"{client:04}" for client in range(4)}
    expected = {"nan_loss": {"0001"}, "infinite_weight": everyone, "huge_weights": everyone, "ft": set()}
    for method, clients in expected.items():
        found = rows_of(folder, method)
        assert {client for client, row in found.items() if row["selected_epoch"] == "0"} == clients
        for client in everyone:
            assert all((found[client][name] == "") == (client in clients) for name in MEASURED)
            assert found[client]["seconds"]
            model = folder / f"personal/{method}/fl0_p0/models/{client}.pt"
            assert model.exists() == (client not in clients)
    settings = {(row["lam_adv"], row["lam_l2"]) for row in rows_of(folder, "ours").values()}
    assert settings == {("1.0", "0.1")}
    tried = read_rows(folder / "personal/ours/lam_adv=1e+38,lam_l2=0.1/fl0_p0/clients.csv")
    assert {(row["selected_epoch"], row["lam_adv"], row["lam_l2"]) for row in tried} == {
        ("0", "1e+38", "0.1")
    }
    where = "diverged on client 0001 (fl0 p0): the network's outputs are not finite after batch 1 (epoch 1)"
    assert f"nan_loss {where}" in (folder / "run.log").read_text()


def test_the_table_says_on_how_many_clients_and_shows_no_number_for_them(diverged: Finished) -> None:
    folder, _, result = diverged
    text = " ".join(result.output.split())
    assert "nan_loss diverged on 1 of 4 clients: its row is of the other models." in text
    assert "infinite_weight diverged on 4 of 4 clients: N/A." in text
    found = {row["method"]: row for row in read_rows(folder / "table.csv") if row["average"] == "mean"}
    assert found["infinite_weight"]["acc_b"] == found["infinite_weight"]["disparity_minus_ours"] == ""
    assert found["nan_loss"]["compared_clients"] == "3"
    left = [float(row["acc_b"]) for row in rows_of(folder, "nan_loss").values() if row["acc_b"]]
    assert float(found["nan_loss"]["acc_b"]) == pytest.approx(sum(left) / 3)


def test_a_coefficient_that_diverges_is_not_chosen_whatever_the_tolerance(diverged: Finished) -> None:
    """1e38 overflows Adam's squares, so that the weights stand still: not a model that changed nothing."""
    folder, *_ = diverged
    decision = json.loads((folder / "tuning/ours/decision.json").read_text())
    assert decision["chosen"] == {"lam_adv": 1.0}
    tried = {trial["value"]: trial for trial in decision["trail"][0]["values"]}
    assert tried[1e38]["correct"] == 0
    assert tried[1e38]["count"] == tried[1.0]["count"] > 0
    assert "the gradients of features.0.weight are too large for Adam" in (folder / "run.log").read_text()


def test_no_json_file_holds_what_is_no_number(diverged: Finished) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(token)

    folder, *_ = diverged
    for path in folder.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)
    lines = (folder / "progress.jsonl").read_text().splitlines()
    events = [json.loads(line, parse_constant=refuse) for line in lines]
    assert sum(event.get("diverged", False) for event in events) == 4 + 1 + 4 + 4
    for path in folder.rglob("*.csv"):
        assert not {"nan", "inf"} & set(path.read_text().lower().replace("\n", ",").split(","))


def test_a_federated_round_that_diverges_stops_the_run_and_says_what_to_lower(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    tiny["train_args"]["learning_rate"] = 1e30
    result = invoke(tiny, tmp_path / "run")
    assert result.exit_code == 1
    assert "seed 0, round 0, client 000" in result.output
    assert "the loss is nan in batch 2 (epoch 1)" in result.output
    assert "Lower train_args.learning_rate (is 1e+30)" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run/results.csv").exists()
