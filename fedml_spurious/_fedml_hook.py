"""Makes ``fedml run --cf CONFIG`` known to FedML's command line, without touching FedML's files.

``fedml_spurious.pth`` imports this module at the start of a Python whose command line names fedml.
It waits there until FedML loads the module of ``fedml run``, and then extends that command.
"""

from __future__ import annotations

import sys

# What is imported here, every such start pays for: typing alone would cost more than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FEDML_RUN = "fedml.cli.modules.run"


class FedMLRunFinder:
    """Finds one module, that of ``fedml run``, and extends the command as soon as it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find :data:`FEDML_RUN` where Python would; leave every other module to the next finder."""
        if name != FEDML_RUN:
            return None
        from importlib.machinery import PathFinder  # late: see above

        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_extend(module: ModuleType) -> None:
            load(module)
            from fedml_spurious._fedml_run import extend  # late: see above

            extend(module)

        # A loader belongs to one module: no other one notices.
        spec.loader.exec_module = load_and_extend  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, FedMLRunFinder())
