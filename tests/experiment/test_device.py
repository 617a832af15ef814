"""Where a run computes, and with how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.device import choose_device


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads_as_before")
def test_threads_are_those_of_the_settings_and_left_alone_without(tiny: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    for device_args, threads in (({}, 1), ({"threads": 3}, 3), ({"threads": 2}, 2), ({}, 2)):
        settings = check_settings(tiny | {"device_args": device_args}, source="test")
        assert choose_device(settings) == torch.device("cpu")
        assert torch.get_num_threads() == threads
