"""Starts a module or a program in a process of a test: ``quick_start.py MODULE|PROGRAM.py ARGUMENTS``.

FedML imports libraries that take core seconds in every process, and the first optimizer imports torch's
compiler. No run uses them: here they are imported when something does. ``test_mpi.py``,
``test_simulation_over_mpi`` and ``.ci/run`` start processes as users do.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any


class Later:
    """A class of a module that is imported when the class is used."""

    def __init__(self, load: Callable[[], ModuleType], name: str) -> None:
        self._load, self._name = load, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._used()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._used(), name)

    def _used(self) -> Any:
        return vars(self._load())[self._name]


def as_it_is(function: Any = None, *_: Any, **__: Any) -> Any:
    """What ``torch._dynamo``'s ``disable`` and ``graph_break`` do where nothing is compiled."""
    return function or as_it_is


# Modules of which nothing is used, and names that are taken from modules and not used.
UNUSED = {"boto3", "torchvision.datasets", "torchvision.models", "torchvision.ops"}
NAMES: Mapping[str, Mapping[str, Any]] = {
    "fedml.api": {},
    "fedml.computing.scheduler.comm_utils.job_monitor": {"JobMonitor": Later},
    "fedml.computing.scheduler.master.master_protocol_manager": {"FedMLLaunchMasterProtocolManager": Later},
    "fedml.core.distributed.communication.s3.remote_storage": {"S3Storage": Later},
    "fedml.core.mlops.system_stats": {"SysStats": Later},
    "torch._dynamo": {"disable": as_it_is, "graph_break": as_it_is},
}


class NamesFirst(Loader):
    """Gives a module a few names, and the rest when another one is asked for or a class is used."""

    def __init__(self, loader: Loader, names: Mapping[str, Any]) -> None:
        self.loader, self.names = loader, names

    def exec_module(self, module: ModuleType) -> None:
        def load() -> ModuleType:
            if vars(module).pop("__getattr__", None):
                self.loader.exec_module(module)
            return module

        def another(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(load(), name)

        for name, value in self.names.items():
            setattr(module, name, Later(load, name) if value is Later else value)
        vars(module)["__getattr__"] = another


class Postponed:
    """Finds the modules that wait for their first use."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in UNUSED and name not in NAMES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = NamesFirst(spec.loader, NAMES[name]) if name in NAMES else LazyLoader(spec.loader)
        return spec


if __name__ == "__main__":
    sys.meta_path.insert(0, Postponed)
    del sys.argv[0]
    if sys.argv[0].endswith(".py"):
        sys.path[0] = sys.argv[0].rpartition("/")[0]
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        sys.path[0] = ""
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
