"""What a user of FedML imports, and what an import costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fedml.core import ClientTrainer, ServerAggregator

import fedml_spurious.fedml_adapter
from fedml_spurious.fedml_adapter import SpuriousAggregator, SpuriousTrainer


def test_the_two_classes_are_fedmls() -> None:
    assert issubclass(SpuriousTrainer, ClientTrainer)
    assert issubclass(SpuriousAggregator, ServerAggregator)
    assert {"SpuriousAggregator", "SpuriousTrainer"} <= set(dir(fedml_spurious.fedml_adapter))
    with pytest.raises(AttributeError, match=r"'fedml_spurious\.fedml_adapter' has no attribute 'Spurious'"):
        _ = fedml_spurious.fedml_adapter.Spurious


def test_fedml_is_imported_when_it_is_needed() -> None:
    """One process imports all: a module that imports FedML is the first after which it is there."""
    modules = [
        "fedml_spurious.fedml_adapter",
        "fedml_spurious.fedml_adapter.local_workers",  # a run whose global models are finished needs no FedML
        "fedml_spurious.fedml_adapter.processes.launch",  # nor does one with wrong settings
    ]
    script = (
        f"import importlib, sys\nfor name in {modules}:\n    importlib.import_module(name)\n"
        "    print(name, 'fedml' in sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == [f"{name} False" for name in modules]
