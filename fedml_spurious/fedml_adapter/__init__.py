"""What FedML sees of this package: a trainer, an aggregator, data sets, and runs with several processes.

The only room that imports FedML; it may import every other but the command line. The classes that a user
of FedML needs are imported when they are asked for, because FedML takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedml_spurious.fedml_adapter.aggregator import SpuriousAggregator
    from fedml_spurious.fedml_adapter.loader_data import LoaderData
    from fedml_spurious.fedml_adapter.personalizing_aggregator import PersonalizingAggregator
    from fedml_spurious.fedml_adapter.personalizing_trainer import PersonalizingTrainer
    from fedml_spurious.fedml_adapter.trainer import SpuriousTrainer

__all__ = [
    "LoaderData",
    "PersonalizingAggregator",
    "PersonalizingTrainer",
    "SpuriousAggregator",
    "SpuriousTrainer",
]

_MODULES = {
    "LoaderData": "loader_data",
    "PersonalizingAggregator": "personalizing_aggregator",
    "PersonalizingTrainer": "personalizing_trainer",
    "SpuriousAggregator": "aggregator",
    "SpuriousTrainer": "trainer",
}


def __getattr__(name: str) -> Any:
    """Import a public class when it is first asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
