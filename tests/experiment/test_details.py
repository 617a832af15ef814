"""What a method tells of its way is kept by client, with the options that it is about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from running import invoke, weights, without_time

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.learning.client_data import load_training_data
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.models import build_model


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_error_sets_of_jtt_are_kept_for_every_value_of_a_grid_and_for_the_chosen_one(
    conflicting_splits: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """T = 0: as many errors as the global model makes on the training samples."""
    tiny["data_args"]["data_cache_dir"] = str(conflicting_splits)
    # Few copies of the errors: an epoch of 50 takes a minute.
    tiny["personalization_args"]["jtt"] = {"multiplicity": 3}
    tiny["experiment_args"] = {
        "methods": ["global", "ft", "jtt"],
        "grids": {"jtt": {"identification_epochs": [0, 1]}},
    }
    folder = tmp_path / "run"
    result = invoke(tiny, folder)
    assert result.exit_code == 0, result.output
    data = SplitFolder(conflicting_splits)
    model = build_model("small_network:cnn", num_classes=10, image_shape=(28, 28, 3), fc_width=8, seed=0)
    model.load_state_dict(weights(folder))
    parts = {
        epochs: folder / f"personal/jtt/identification_epochs={epochs},multiplicity=3/fl0_p0"
        for epochs in (0, 1)
    }
    of_the_global = read(parts[0] / "details.json")
    assert list(of_the_global) == list(data.client_ids)
    for client, found in of_the_global.items():
        given = load_training_data(data, client, torch.device("cpu"))
        right = evaluate(model, given.train.x, given.train.y).correct
        assert found["samples"] - found["error_set"] == right
        assert found["conflicting"] == int((~given.aligned).sum())
    chosen = read(folder / "tuning/jtt/decision.json")["chosen"]["identification_epochs"]
    final = folder / "personal/jtt/fl0_p0/details.json"
    assert read(final) == read(parts[chosen] / "details.json")
    assert read(parts[1] / "details.json") != of_the_global
    assert not list(folder.glob("personal/ft/**/details.json"))
    before, rows = final.read_bytes(), without_time(folder)
    for path in (parts[chosen] / "clients.csv", parts[chosen] / "details.json"):
        path.unlink()  # killed before either was written
    assert invoke(tiny, folder, "--resume").exit_code == 0
    assert (final.read_bytes(), without_time(folder)) == (before, rows)
    refused = invoke(tiny, folder, "--resume", "--set", "personalization_args.jtt.identification_epochs=-1")
    assert refused.exit_code == 2
    assert "jtt.identification_epochs" in refused.output
