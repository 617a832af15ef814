"""The folder of a run: where everything is, what may be continued, and nothing outside it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from fedml_spurious.common.checksums import CHECKSUMS, keep_checksums
from fedml_spurious.common.errors import RunError
from fedml_spurious.common.storage import write_json, write_text
from fedml_spurious.common.version import __version__
from fedml_spurious.config.settings import Settings
from fedml_spurious.results.audits import AUDIT_FILES
from fedml_spurious.results.folders import SOURCE

logger = logging.getLogger(__name__)


_DERIVED = (
    "results.csv", "results_last.csv", "table.csv", "table.md", "table.tex", "report.html", *AUDIT_FILES,
)  # fmt: skip
_RECORDED = ("divergence.csv", "gamma.csv", "twins.csv")
_PLAIN_LABEL = re.compile(r"[\w.,=+-]{1,200}")
_PACKAGES = ("fedml", "torch", "torchvision", "numpy", "h5py", "pydantic")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run (see docs/usage.md).

    Attributes:
        path: the folder.
        listeners: called with the name and the details of every event that is noted.
    """

    path: Path
    listeners: list[Callable[[str, dict[str, Any]], None]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The resolved configuration; its presence makes the folder a run."""
        return self.path / "config.yaml"

    def is_begun(self) -> bool:
        """Whether a run is there, even if somebody removed its configuration."""
        return self.config.exists() or (self.path / CHECKSUMS).exists()

    @property
    def written_by_fedml(self) -> Path:
        """Says that rounds of FedML's runner made the run, which cannot be continued."""
        return self.path / "written_by_fedml.txt"

    @property
    def log(self) -> Path:
        """Log of the run, FedML's own messages among it."""
        return self.path / "run.log"

    @property
    def data(self) -> Path:
        """Split files that the run made for itself."""
        return self.path / "data"

    def data_part(self, fl_seed: int) -> Path:
        """Split files of one federated seed, where every seed has a partition of its own."""
        return self.data / f"fl{fl_seed}"

    @property
    def results(self) -> Path:
        """A row per method, seeds and client; written when all are there."""
        return self.path / "results.csv"

    @property
    def results_last(self) -> Path:
        """The same of the last epoch, whatever epoch was selected."""
        return self.path / "results_last.csv"

    def global_part(self, fl_seed: int) -> Path:
        """Folder of a global model."""
        return self.path / "global" / f"fl{fl_seed}"

    def personal_part(self, method: str, fl_seed: int, p_seed: int | None) -> Path:
        """Folder of one method with one pair of seeds; the global model has no personal seed."""
        suffix = "" if p_seed is None else f"_p{p_seed}"
        return self.path / "personal" / method / f"fl{fl_seed}{suffix}"

    def options_part(self, method: str, options: Mapping[str, Any], fl_seed: int, p_seed: int | None) -> Path:
        """Folder of one method with these options and one pair of seeds."""
        label = ",".join(f"{name}={value!r}" for name, value in sorted(options.items()))
        if not _PLAIN_LABEL.fullmatch(label):  # of a method of the user's own; any text may be in there
            label = hashlib.sha256(label.encode()).hexdigest()[:32]
        return self.path / "personal" / method / label / f"fl{fl_seed}_p{p_seed}"

    def decision(self, method: str) -> Path:
        """Which coefficients a method got, and why."""
        return self.path / "tuning" / method / "decision.json"

    def note(self, event: str, **details: Any) -> None:
        """Append an event to ``progress.jsonl`` and tell the listeners."""
        for listener in self.listeners:
            listener(event, details)
        line = json.dumps({"time": round(time.time(), 3), "event": event, **details}, allow_nan=False)
        path = self.path / "progress.jsonl"
        try:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise RunError(
                f"{path}: cannot be written ({error.strerror or error}). Free space or permissions on that "
                "disk, then continue with --resume"
            ) from error


def config_text(settings: Settings) -> str:
    """What ``config.yaml`` says of a run with these settings."""
    return yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True), sort_keys=False)


def write_config(folder: RunFolder, settings: Settings, source: str | None = None) -> None:
    """Write the resolved configuration, which can be run again with ``--cf``, and the environment.

    Args:
        folder: of the run.
        settings: of the run.
        source: from which of several data sets of one name the split files were made, if there are several.

    Results of another configuration are removed: they are put together anew from the rows that are kept, and
    until then nobody may take them for results of this one.
    """
    keep_checksums(folder.path)
    content = config_text(settings)
    if not folder.config.exists() or folder.config.read_bytes() != content.encode():
        for name in (*_DERIVED, *_RECORDED):
            (folder.path / name).unlink(missing_ok=True)
        write_text(folder.config, content)
    versions = {name: metadata.version(name) for name in _PACKAGES}
    write_json(
        folder.path / "environment.json",
        {
            "fedml_spurious": __version__,
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": _gpu_name(settings),
            "packages": versions,
            **({} if source is None else {SOURCE: source}),
            "defaults": _defaults(settings),
        },
    )


def _defaults(settings: Settings) -> dict[str, Any]:
    """What this version takes where a configuration says nothing; a report tells it from what was chosen."""
    return {
        name: field.default.model_dump(mode="json", exclude_none=True)
        for name, field in type(settings).model_fields.items()
        if not field.is_required()
    }


def _gpu_name(settings: Settings) -> str | None:
    # A server of several processes needs no GPU.
    wanted = settings.device_args.using_gpu and torch.cuda.is_available()
    return torch.cuda.get_device_name() if wanted else None
