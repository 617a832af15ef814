"""The cost models in closed form: counts that are known times made-up speeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.file import check_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.data import SplitFiles
from fedml_spurious.doctor.space_model import folder_size
from fedml_spurious.doctor.spans import Span, duration, size
from fedml_spurious.doctor.speeds import Machine, MethodSpeed, Speeds
from fedml_spurious.doctor.time_model import TimeModel, full_batches

NOTHING = Speeds(
    batch=0,
    fixed=0,
    client=0,
    average=0,
    evaluation=0,
    attack=0,
    save=0,
    row=0,
    message=0,
    methods={},
    weights=0,
)
ALONE = Machine(workers=1, size=1, side_by_side=1, start=0, end=0, base=0, peak=0)


@pytest.fixture
def settings(tiny: dict[str, Any]) -> Settings:
    return check_settings(tiny, source="tiny")


def stages(
    settings: Settings, federation: SplitFolder, speeds: Speeds, machine: Machine = ALONE
) -> dict[str, Span]:
    clients = federation.client_ids
    return TimeModel(settings, federation, clients, speeds, machine, SplitFiles()).stages()


def images(federation: SplitFolder, *splits: str) -> int:
    return sum(federation.count(client, split) for client in federation.client_ids for split in splits)


def test_rounds_are_batches_of_the_clients(settings: Settings, federation: SplitFolder) -> None:
    """Where a batch costs by its images alone: 3 rounds x 2 of 4 clients x 1 epoch of n / 16 batches."""
    found = stages(settings, federation, replace(NOTHING, batch=16.0))["rounds"]
    assert found.middle == pytest.approx(3 * 2 * images(federation, "train") / 4)
    assert found.low == found.high == pytest.approx(found.middle)


def test_rounds_measure_the_global_model_on_all_test_samples(
    settings: Settings, federation: SplitFolder
) -> None:
    """Rounds 0 and 2 of 3: every fifth, and the last."""
    rarely = settings.validation_args.model_copy(update={"frequency_of_the_test": 5})
    settings = settings.model_copy(update={"validation_args": rarely})
    found = stages(settings, federation, replace(NOTHING, evaluation=1.0))["rounds"]
    assert found.middle == pytest.approx(2 * images(federation, "test", "test_bc"))


@pytest.mark.parametrize(("workers", "side_by_side", "share"), [(2, 2, 2), (2, 1, 4), (3, 3, 1), (1, 1, 3)])
def test_a_round_waits_for_the_worker_with_the_most_clients(
    workers: int, side_by_side: int, share: int, settings: Settings, federation: SplitFolder
) -> None:
    """Three clients a round: two workers with a core each need two turns, on one core twice as long."""
    three = settings.train_args.model_copy(update={"client_num_per_round": 3})
    settings = settings.model_copy(update={"train_args": three})
    machine = replace(ALONE, workers=workers, size=workers + 1, side_by_side=side_by_side)
    found = stages(settings, federation, replace(NOTHING, client=1.0), machine)["rounds"]
    assert found.low == pytest.approx(3 * share)


def test_personalization_is_every_method_on_every_client(settings: Settings, federation: SplitFolder) -> None:
    """Two epochs of two methods; starts and ends of epochs once each."""
    speeds = replace(
        NOTHING, methods={name: MethodSpeed(1.0, 0.0, 10.0, False, False) for name in ("ft", "ours")}
    )
    found = stages(settings, federation, speeds)
    assert found["personalization"].middle == pytest.approx(4 * 2 * (1 + 2 * 10))
    assert found["tuning"].high == 0


def test_attacks_are_steps_on_the_splits_that_some_method_reads(
    settings: Settings, federation: SplitFolder
) -> None:
    speeds = replace(NOTHING, attack=1.0, methods={"ours": MethodSpeed(0.0, 0.0, 0.0, True, True)})
    ready = images(federation, "train", "val", "test")
    once = images(federation, "train")  # of the budget; fewer than budget_samples on every client
    found = stages(settings, federation, speeds)["personalization"]
    assert found.low == pytest.approx(2 * (ready + once))
    assert found.high == pytest.approx(2 * (ready + 8 * once))


def test_trials_that_are_chosen_are_not_trained_again(tiny: dict[str, Any], federation: SplitFolder) -> None:
    """3 + 2 - 1 trials of ours with the first of two pairs of seeds; the other pair is personalization."""
    tiny["experiment_args"] |= {
        "grids": {"ours": {"lam_adv": [0.1, 1.0, 10.0], "lam_l2": [0.1, 1.0]}},
        "personalization_seeds": [0, 1],
    }
    settings = check_settings(tiny, source="tiny")
    speeds = replace(NOTHING, methods={"ours": MethodSpeed(1.0, 0.0, 0.0, False, False)})
    found = stages(settings, federation, speeds)
    assert found["tuning"].middle == pytest.approx(4 * 4)
    assert found["personalization"].middle == pytest.approx(4)


def test_the_folder_has_two_models_of_every_seed_and_those_that_are_asked_for(
    tiny: dict[str, Any], federation: SplitFolder
) -> None:
    speeds = replace(NOTHING, weights=10**9)
    sizes = []
    for save in (False, True):
        tiny["personalization_args"]["save_models"] = save
        settings = check_settings(tiny, source="tiny")
        sizes.append(folder_size(settings, federation, federation.client_ids, speeds, SplitFiles()).middle)
    assert round(sizes[0] / 1e9) == 2
    # Two methods and the global one, which is no personal model but a row, on four clients.
    assert round((sizes[1] - sizes[0]) / 1e9) == 2 * 4


@pytest.mark.parametrize(
    ("samples", "fixed", "expected"),
    [(32, 0.0, 2), (32, 1.0, 2), (40, 0.0, 2.5), (40, 1.0, 3), (40, 0.5, 2.75), (8, 1.0, 1),
     (17, 1.0, 1), (17, 0.0, 17 / 16)],
)  # fmt: skip
def test_an_epoch_in_full_batches(samples: int, fixed: float, expected: float) -> None:
    assert full_batches(samples, 16, fixed) == pytest.approx(expected)


def test_spans_add_and_multiply_end_by_end() -> None:
    assert Span(1, 2, 3) + Span(10, 20, 30) == Span(11, 22, 33)
    assert Span(1, 2, 3) * Span(2, 3, 4) == Span(2, 6, 12)
    assert Span(9, 10, 30).at_least(2) == Span(5, 10, 30)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.44, "0.4 s"), (52.4, "52 s"), (100, "1.7 min"), (3600, "60 min"), (9000, "2.5 h"),
     (86400 * 4, "4.0 days")],
)  # fmt: skip
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("amount", "words"), [(340_000, "340 kB"), (9_960_000, "10 MB"), (1.24e9, "1.2 GB"), (3e12, "3.0 TB")]
)
def test_sizes_in_words(amount: float, words: str) -> None:
    assert size(amount) == words
