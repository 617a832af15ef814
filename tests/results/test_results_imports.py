"""A table of finished runs answers at once: nothing here waits for torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import fedml_spurious.results

MODULES = [
    f"fedml_spurious.results.{found.name}" for found in pkgutil.iter_modules(fedml_spurious.results.__path__)
]


def test_no_module_of_results_imports_torch() -> None:
    assert len(MODULES) > 10
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "heavy = ('torch', 'torchvision', 'fedml', 'h5py', 'data_partition', 'fedml_spurious.config')\n"
        "print(sorted(set(sys.argv[1:]) - set(sys.modules)), [name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *MODULES], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[] []\n"
