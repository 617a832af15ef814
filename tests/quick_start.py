"""Starts a module or a program in a process of a test: ``quick_start.py MODULE|PROGRAM.py ARGUMENTS``.

FedML imports libraries that take a core seconds in every process, and that no run uses: these are imported
when something uses them. ``test_mpi.py``, ``test_simulation_over_mpi`` and ``.ci/run`` start processes as
users do.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

UNUSED = {"boto3", "torchvision.datasets", "torchvision.models", "torchvision.ops"}


class Postponed:
    """Finds the modules that wait for their first use."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in UNUSED else None
        if spec and spec.loader:
            spec.loader = LazyLoader(spec.loader)
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
