"""Clients and batches of which a part is timed: how little is made up, and that the rest is in proportion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from data_partition.colored_mnist import Options, build
from data_partition.partition import Raw
from data_partition.registry import PARTITIONS
from data_partition.split_files.federation import ImageReader, PlannedSamples
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.file import check_settings
from fedml_spurious.doctor import data as doctor_data
from fedml_spurious.doctor import timing
from fedml_spurious.doctor.data import SplitFiles
from fedml_spurious.doctor.memory import bytes_of_an_image
from fedml_spurious.doctor.space_model import peak_memory
from fedml_spurious.doctor.speeds import Machine, Speeds
from fedml_spurious.doctor.time_model import TimeModel
from fedml_spurious.learning.client_data import Labelled

ALONE = Machine(workers=1, size=1, side_by_side=1, start=0, end=0, base=0, peak=0)
HUGE = 100_000
clock = [0.0]


def ticking(*, num_classes: int, image_shape: tuple[int, int, int], fc_width: int) -> nn.Module:
    """A network with a second per image that it is given."""

    def tick(_: nn.Module, given: tuple[torch.Tensor]) -> None:
        clock[0] += len(given[0])

    height, width, channels = image_shape
    made = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, fc_width),
        nn.ReLU(),
        nn.Linear(fc_width, num_classes),
    )
    made.register_forward_pre_hook(tick)
    return made


def timed(config: dict[str, Any], data: SplitFolder, scratch: Path) -> tuple[Any, Speeds]:
    """Settings and speeds, batches of 1,000 images in the federated step."""
    config["model_args"] = {"model": "test_huge_clients:ticking", "fc_width": 5}
    config["train_args"]["batch_size"] = 1000
    config["personalization_args"] |= {"batch_size": 400}
    settings = check_settings(config, source="tiny")
    cpu = torch.device("cpu")
    speeds = timing.time_steps(settings, data, data.client_ids, cpu, scratch, clock=lambda: clock[0])
    return settings, speeds


@pytest.fixture
def huge(federation: SplitFolder, monkeypatch: pytest.MonkeyPatch) -> SplitFolder:
    """The description of clients with very many samples in every split."""
    monkeypatch.setattr(federation, "count", lambda client, split: HUGE)
    return federation


def test_of_huge_clients_a_part_is_made_up_and_the_rest_is_in_proportion(
    tiny: dict[str, Any], huge: SplitFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    make = timing.made_up_images

    def counting(count: int, *more: Any) -> torch.Tensor:
        made.append(count)
        return make(count, *more)

    monkeypatch.setattr(timing, "made_up_images", counting)
    settings, speeds = timed(tiny, huge, tmp_path)
    assert max(made) <= 1024
    assert speeds.batch == pytest.approx(1000)
    assert speeds.fixed == pytest.approx(0)
    assert speeds.evaluation == pytest.approx(1)
    # Fine-tuning looks at every training sample once, and at every validation sample after an epoch.
    ft = speeds.methods["ft"]
    assert ft.batch == pytest.approx(400)
    assert ft.epoch == pytest.approx(HUGE)
    model = TimeModel(settings, huge, huge.client_ids, speeds, ALONE, SplitFiles())
    rounds = model.stages()["rounds"].middle
    training, measuring = 3 * 2 * HUGE, 2 * 4 * 2 * HUGE  # rounds x clients; rounds x clients x test sets
    assert rounds == pytest.approx(training + measuring)


def test_a_batch_that_is_larger_than_any_client_takes_what_the_client_takes(
    tiny: dict[str, Any], federation: SplitFolder, tmp_path: Path
) -> None:
    settings, speeds = timed(tiny, federation, tmp_path)
    model = TimeModel(settings, federation, federation.client_ids, speeds, ALONE, SplitFiles())
    counts = {
        split: sum(federation.count(client, split) for client in federation.client_ids)
        for split in ("train", "test", "test_bc")
    }
    expected = 3 * 2 / 4 * counts["train"] + 2 * (counts["test"] + counts["test_bc"])
    assert model.stages()["rounds"].middle == pytest.approx(expected)
    assert speeds.unseen_bytes == 0


def test_what_an_image_keeps_is_counted_without_the_weights() -> None:
    """As float32 the image, what ReLU gave, and the logarithms of the probabilities; and a class as int64."""
    made = ticking(num_classes=7, image_shape=(4, 6, 3), fc_width=11)
    samples = Labelled(torch.rand(32, 3, 4, 6), torch.arange(32) % 7)
    expected = 4 * (4 * 6 * 3 + 11 + 7) + 8
    assert bytes_of_an_image(made, samples) == pytest.approx(expected, abs=4 / 32)


def test_a_batch_of_which_a_part_was_timed_needs_memory_for_the_rest(
    tiny: dict[str, Any], huge: SplitFolder, tmp_path: Path
) -> None:
    settings, speeds = timed(tiny, huge, tmp_path)
    an_image = 4 * (28 * 28 * 3 + 5 + 10) + 8
    assert speeds.unseen_bytes == pytest.approx((1000 - 256) * an_image, rel=1e-4)
    spans = [
        peak_memory(settings, huge, huge.client_ids, one, ALONE)[0]
        for one in (speeds, replace(speeds, unseen_bytes=0))
    ]
    assert spans[0].low - spans[1].low == pytest.approx(speeds.unseen_bytes)
    assert spans[0].low < spans[0].middle < spans[0].high


def test_of_a_huge_client_some_images_are_written_and_tell_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(source="digits", clients=1, classes_per_client=10, seed=1)
    federation = PARTITIONS["colored_mnist"].plan(options, Raw(None))
    read: list[int] = []

    @contextmanager
    def counting(folder: Path) -> Iterator[Iterator[ImageReader]]:
        def count(samples: PlannedSamples) -> npt.NDArray[np.uint8]:
            read.append(len(samples.rows))
            return reader(samples)

        assert federation.images is not None
        with federation.images(folder) as (reader, *_):
            yield iter([count])

    found = doctor_data._write_few(replace(federation, images=counting), tmp_path / "few", lambda: 0.0)
    assert 1000 <= sum(read) <= 1004
    build(options, raw=None, out=tmp_path / "all")
    true = sum(path.stat().st_size for path in (tmp_path / "all").iterdir())
    assert found.nbytes == pytest.approx(true, rel=0.1)
