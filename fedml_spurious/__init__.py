"""Robust personalized federated learning under spurious features, on FedML 0.9.6.

Importing the package is cheap: what it offers is imported when it is asked for, and torch with it. Names that
are neither in ``__all__`` here nor named in the documentation may change.
"""

from __future__ import annotations

# Every Python whose command line names fedml imports this file: typing alone would cost more than all of it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from data_partition.split_files.folder import SplitFolder as SplitFolder
    from fedml_spurious.common.errors import InputError as InputError
    from fedml_spurious.common.errors import RunError as RunError
    from fedml_spurious.common.errors import SealedError as SealedError
    from fedml_spurious.common.version import __version__ as __version__
    from fedml_spurious.config.file import load_settings as load_settings
    from fedml_spurious.config.settings import Settings as Settings
    from fedml_spurious.learning.attacks import Attack as Attack
    from fedml_spurious.learning.attacks import pgd as pgd
    from fedml_spurious.learning.client_data import load_test_data as load_test_data
    from fedml_spurious.learning.client_data import load_training_data as load_training_data
    from fedml_spurious.learning.losses import adversarial_disagreement as adversarial_disagreement
    from fedml_spurious.learning.losses import l2_distance as l2_distance
    from fedml_spurious.learning.metrics import evaluate as evaluate
    from fedml_spurious.learning.models import build_model as build_model
    from fedml_spurious.learning.training import LocalTraining as LocalTraining
    from fedml_spurious.library import Run as Run
    from fedml_spurious.library import run as run
    from fedml_spurious.personalization import make_method as make_method
    from fedml_spurious.personalization.base import ClientView as ClientView
    from fedml_spurious.personalization.base import Personalizer as Personalizer

_MODULES = {
    "__version__": "fedml_spurious.common.version",
    "Attack": "fedml_spurious.learning.attacks",
    "ClientView": "fedml_spurious.personalization.base",
    "InputError": "fedml_spurious.common.errors",
    "LocalTraining": "fedml_spurious.learning.training",
    "Personalizer": "fedml_spurious.personalization.base",
    "Run": "fedml_spurious.library",
    "RunError": "fedml_spurious.common.errors",
    "SealedError": "fedml_spurious.common.errors",
    "Settings": "fedml_spurious.config.settings",
    "SplitFolder": "data_partition.split_files.folder",
    "adversarial_disagreement": "fedml_spurious.learning.losses",
    "build_model": "fedml_spurious.learning.models",
    "evaluate": "fedml_spurious.learning.metrics",
    "l2_distance": "fedml_spurious.learning.losses",
    "load_settings": "fedml_spurious.config.file",
    "load_test_data": "fedml_spurious.learning.client_data",
    "load_training_data": "fedml_spurious.learning.client_data",
    "make_method": "fedml_spurious.personalization",
    "pgd": "fedml_spurious.learning.attacks",
    "run": "fedml_spurious.library",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # late: see above

    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
