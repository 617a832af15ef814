"""``experiment_args.trials: all``: every combination of the grids with all seeds, and the same results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from running import client_events, invoke, without_time

from fedml_spurious.results.stored_rows import stored_rows


def test_every_combination_is_tried_with_every_seed_and_the_results_are_the_same(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    grids = {"l2": {"lam_l2": [0.1, 10.0]}, "ours": {"lam_adv": [0.1, 1.0], "lam_l2": [0.01, 1.0]}}
    config = tiny | {
        "personalization_args": {"epochs": 1, "clients": ["0000", "0001"]},
        "experiment_args": {
            "methods": ["global", "ft", "l2", "ours"], "grids": grids, "fl_seeds": [0, 1], "trials": "all",
        },
    }  # fmt: skip
    folder = tmp_path / "all"
    result = invoke(config, folder)
    assert result.exit_code == 0, result.output
    # 2 clients x 2 federated seeds: global, ft, 2 of l2 and 4 of ours, each once.
    assert len(client_events(folder)) == len(set(client_events(folder))) == 4 * (1 + 1 + 2 + 4)
    assert "Personal models: 32/32" in result.output
    assert "all 6 combinations of them are tried with all seeds" in result.output
    tried = [
        (stored.options, stored.row.fl_seed, stored.row.client)
        for stored in stored_rows(folder)
        if stored.row.method == "ours" and stored.epoch == "last"
    ]
    assert tried == [
        (f"lam_adv={adv},lam_l2={l2}", seed, client)
        for adv in ("0.1", "1.0") for l2 in ("0.01", "1.0") for seed in (0, 1) for client in ("0000", "0001")
    ]  # fmt: skip
    final = [stored.row for stored in stored_rows(folder) if stored.final and stored.epoch == "selected"]
    assert len(final) == 4 * 4
    config["experiment_args"].pop("trials")
    assert invoke(config, tmp_path / "needed").exit_code == 0
    assert without_time(folder) == without_time(tmp_path / "needed")
