"""The audit of models that are not ours: any network, any image shape, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from federations import audit
from torch import nn

from data_partition.own import write_splits

HEIGHT, WIDTH = 6, 10


class Weights(nn.Module):
    """Answers class 1 where a weighted sum of an image is beyond a threshold; a third class never."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, HEIGHT, WIDTH))
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.weight).sum(dim=(1, 2, 3)) - self.threshold
        return torch.stack([-score, score, torch.full_like(score, -1e9)], dim=1)


class Sized(Weights):
    """Takes what a factory is given."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        assert (image_shape, num_classes) == ((HEIGHT, WIDTH, 3), 2)


class Failing(Weights):
    """Fails when it is used."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel")


class Narrow(Weights):
    """Gives one logit."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[:, :1]


def fails() -> nn.Module:
    raise OSError("no weights")


made = Weights()
text = "no network"


def spoiled(image: torch.Tensor, donor: torch.Tensor, draw: object) -> torch.Tensor:
    raise ZeroDivisionError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clients whose class shows in the left half, and, for client 0000, as a colour in the right one."""
    folder = tmp_path_factory.mktemp("foreign")
    count, rng = 160, np.random.default_rng(0)
    label, client = np.arange(count) % 2, np.repeat(["a", "b"], count // 2)
    spurious = np.where(client == "a", label, 1 - label)
    image = rng.integers(60, 120, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[label == 1, :, :5] += 100
    image[spurious == 1, :, 5:] += 100
    write_splits(folder, "halves", image=image, label=label, spurious=spurious, client=client,
                 ratios=(40, 20, 40))  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of a global model that looks at the left half, and of a personal one at the right."""
    folder, found = tmp_path_factory.mktemp("weights"), {}
    for name, columns in (("global", slice(0, 5)), ("personal", slice(5, 10))):
        model = Weights()
        model.weight.data[:, :, columns] = 1.0
        model.threshold.fill_(140 / 255 * 3 * HEIGHT * 5)  # between the two brightnesses of a half
        found[name] = folder / f"{name}.pt"
        torch.save(model.state_dict(), found[name])
    return found


def arguments(folder: Path, files: dict[str, Path], **changes: object) -> list[object]:
    given = {
        "global": files["global"], "personal": files["personal"], "model": "test_foreign:Weights",
        "data": folder, "client": "0000",
    } | changes  # fmt: skip
    return [part for name, value in given.items() if value is not None for part in (f"--{name}", value)]


@pytest.mark.parametrize("network", ["test_foreign:Weights", "test_foreign:Sized"])
def test_a_personal_model_that_looks_at_the_attribute_alone_is_more(
    data: Path, files: dict[str, Path], tmp_path: Path, network: str
) -> None:
    """By hand: the box of the right half carries the class of the donor, whatever the left half says."""
    given = arguments(data, files, model=network, out=tmp_path / "out")
    result = audit(*given, "--probe", f"region:0,{HEIGHT},5,{WIDTH}")
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out/audit.json").read_text())["methods"]["personal"]
    assert (summary["verdict"], summary["delta"]["value"]) == ("more", 1.0)
    assert (summary["disparity_global"]["value"], summary["disparity_personal"]["value"]) == (0.0, 1.0)
    (row,) = csv.DictReader((tmp_path / "out/audit.csv").open())
    assert (row["images"], row["classes"], row["change"]) == ("48", "2", "0.0")
    assert (row["flips_global"], row["flips_personal"]) == ("0.0", "1.0")
    assert "personal: more: the probe finds a rise of +1.000" in result.output
    assert (tmp_path / "out/audit.png").is_file()


def test_a_ready_network_does_and_one_peer_is_too_few(
    data: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    result = audit(*arguments(data, files, model="test_foreign:made", out=tmp_path), "--peers")
    assert result.exit_code == 0, result.output
    assert "personal: cannot say: 1 peer, fewer than 5" in result.output
    (row,) = csv.DictReader((tmp_path / "audit.csv").open())
    assert (row["peers"], row["peer_delta"]) == ("1", "1.0")  # the peer's colours are the other way round


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"client": "0007"}, [], "--client: no client '0007' in"),
        ({"client": "b"}, [], "there are 0000 to 0001. Did you mean 0001, which was called b?"),
        ({}, ["--rank", "1"], "--rank: is for runs; leave it out, or give the folder of one"),
        ({}, ["--cf", "quickstart"], "--cf: is for runs"),
        ({"client": None}, [], "--client: missing; two models need --global, --personal, --model"),
        ({"data": "nowhere"}, [], "nowhere: no such folder"),
        ({"global": "nowhere.pt"}, [], "--global: nowhere.pt: no such file; expected a state dictionary"),
        ({"personal": __file__}, [], "cannot be read as weights"),
        ({"model": "nowhere_at_all:net"}, [], "--model: cannot import 'nowhere_at_all:net'"),
        ({"model": "test_foreign:text"}, [], "is a str, expected a function that makes a network"),
        ({"model": "test_foreign:fails"}, [], "--model: test_foreign:fails fails with OSError: no weights"),
        ({"model": "torch.nn:Identity"}, [], "does not fit torch.nn:Identity: weight is not known"),
        ({}, ["--truth"], "--truth: reads the results of a run"),
        ({}, ["--probe", "region:0,9,0,9"], "reaches beyond the images, which have 6 rows and 10 columns"),
        ({}, ["--probe", "test_foreign:spoiled"], "fails with ZeroDivisionError"),
        ({}, ["--tolerance", "nan"], "--tolerance: is nan, expected"),
    ],
)  # fmt: skip
def test_what_cannot_be_audited_is_one_message_and_nothing_is_written(
    data: Path,
    files: dict[str, Path],
    tmp_path: Path,
    changes: dict[str, object],
    more: list[str],
    message: str,
) -> None:
    result = audit(*arguments(data, files, out=tmp_path / "out", **changes), *more)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_computed(
    data: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("in the way")
    result = audit(*arguments(data, files, out=tmp_path / "out", model="test_foreign:Failing"))
    assert result.exit_code == 2, result.output
    assert f"{tmp_path}/out: cannot be written" in result.output


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("Failing", "fails on images of shape (2, 3, 6, 10) with RuntimeError: no such kernel"),
        ("Narrow", "gives a tensor of shape (2, 1) for images of shape (2, 3, 6, 10)"),
    ],
)
def test_a_network_that_gives_no_logits_is_refused(
    data: Path, tmp_path: Path, network: str, message: str
) -> None:
    torch.save(Weights().state_dict(), tmp_path / "weights.pt")
    weights = {"global": tmp_path / "weights.pt", "personal": tmp_path / "weights.pt"}
    result = audit(*arguments(data, weights, model=f"test_foreign:{network}", out=tmp_path / "out"))
    assert result.exit_code == 2, result.output
    assert message in result.output
