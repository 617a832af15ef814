"""Every column of ``results.csv``, recomputed from the files of a run, sample by sample."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from quick_runs import SIZES, network, quick_config, quick_splits
from running import invoke, read_rows
from torch import nn

METHODS = ("global", "ft", "uw", "adv", "ours")
OPTIONS = {"adv": {"lam_adv": 2.0}, "ours": {"lam_adv": 3.0, "lam_l2": 0.25}}
EPS, STEPS, RATIO = 0.2, 2, 0.25


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("columns")
    config = quick_config(quick_splits(folder / "splits"))
    config["personalization_args"] |= OPTIONS | {"save_models": True}
    config["experiment_args"] |= {"methods": list(METHODS), "fl_seeds": [3], "personalization_seeds": [5]}
    result = invoke(config, folder / "run")
    assert result.exit_code == 0, result.output
    return folder


Sample = tuple[torch.Tensor, int]


def samples(run: Path, client: str, split: str) -> list[Sample]:
    with h5py.File(run / f"splits/quick_{split}.h5") as file:
        group = file[f"examples/{client}"]
        images = torch.from_numpy(group["image"][()]).permute(0, 3, 1, 2) / 255
        return list(zip(images, group["label"][()].tolist(), strict=True))


def load(path: Path) -> nn.Module:
    model = network(num_classes=2, image_shape=(6, 6, 3), fc_width=8).eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.requires_grad_(False)


def measured(model: nn.Module, given: list[Sample]) -> tuple[float, float]:
    """Accuracy and mean cross-entropy."""
    right, total = 0, 0.0
    for image, label in given:
        logits = model(image[None])[0].double().tolist()
        right += logits.index(max(logits)) == label
        total += math.log(sum(map(math.exp, logits))) - logits[label]
    return right / len(given), total / len(given)


def attacked(model: nn.Module, image: torch.Tensor, label: int) -> torch.Tensor:
    """PGD of Madry et al. in the maximum norm, one pixel's rule at a time."""
    found = image
    for _ in range(STEPS):
        x = found[None].clone().requires_grad_(True)
        logits = model(x)[0]
        (logits.logsumexp(0) - logits[label]).backward()
        assert x.grad is not None
        stepped = found + EPS * RATIO * x.grad[0].sign()
        found = torch.minimum(torch.maximum(stepped, image - EPS), image + EPS).clamp(0, 1)
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_cell_follows_from_the_files(method: str, run: Path) -> None:
    rows = [row for row in read_rows(run / "run/results.csv") if row["method"] == method]
    assert [row["client"] for row in rows] == ["0000", "0001"]
    shared = load(run / "run/global/fl3/model.pt")
    for row, client in zip(rows, ("0000", "0001"), strict=True):
        model = shared
        if method != "global":
            model = load(run / f"run/personal/{method}/fl3_p5/models/{client}.pt")
        given = {split: samples(run, client, split) for split in SIZES}
        assert (
            len({len(found) for found in given.values()}) == 4
        )  # no two splits could be taken for each other
        adversarial = [(attacked(shared, image, label), label) for image, label in given["test"]]
        (acc_b, loss_b), (acc_bc, loss_bc) = (measured(model, given[name]) for name in ("test", "test_bc"))
        acc_adv, loss_adv = measured(model, adversarial)
        expected: dict[str, Any] = {
            "dataset": "quick", "method": method, "fl_seed": 3, "p_seed": "" if method == "global" else 5,
            "client": client, "n_train": len(given["train"]), "n_val": len(given["val"]),
            "n_test": len(given["test"]), "n_test_bc": len(given["test_bc"]),
            "acc_b": acc_b, "acc_bc": acc_bc,
            "disparity": acc_b - acc_bc, "loss_b": loss_b, "loss_bc": loss_bc, "acc_adv": acc_adv,
            "loss_adv": loss_adv, "val_acc": measured(model, given["val"])[0], "eps": EPS,
            "lam_adv": OPTIONS.get(method, {}).get("lam_adv", ""),
            "lam_l2": OPTIONS.get(method, {}).get("lam_l2", ""),
        }  # fmt: skip
        told = {"selected_epoch", "seconds"}
        assert row.keys() == expected.keys() | told
        for name, value in expected.items():
            if isinstance(value, str):
                assert row[name] == value, name
            else:
                assert float(row[name]) == pytest.approx(value, rel=1e-5, abs=1e-7), name
        if method == "global":
            assert {row[name] for name in told} == {""}
        else:
            assert row["selected_epoch"] in {"1", "2", "3"}
            assert 0 < float(row["seconds"]) < 60
