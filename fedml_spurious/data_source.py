"""Where a run's client split files come from: a folder that is there, or a partition made for the run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from data_partition.registry import PARTITIONS
from fedml_spurious.config import Settings
from fedml_spurious.progress import stage
from fedml_spurious.run_folder import RunFolder
from fedml_spurious.splits import SplitFolder


def open_data(settings: Settings, folder: RunFolder, console: Console) -> SplitFolder:
    """Open the client split files, and make them first where the settings say so.

    Raises:
        InputError: the files are absent or damaged, or the partition options or raw data are wrong.
    """
    chosen = settings.data_args
    if chosen.data_cache_dir is not None:
        made = Path(chosen.data_cache_dir).expanduser()
        # The server of silos reads the description of the splits and no sample.
        described = settings.common_args.training_type == "cross_silo"
        return SplitFolder(made, name=chosen.dataset, files=not described)
    partition = PARTITIONS[chosen.dataset]
    options = partition.Options.model_validate(chosen.partition)
    raw = Path(chosen.raw).expanduser() if chosen.raw else None
    with stage(console, f"Splits of {chosen.dataset}", total=1) as bar:
        # Without a configuration beside them, splits are left from a run that was refused after making them.
        started = folder.config.exists()
        partition.build(options, raw=raw, out=folder.data, progress=bar.set, overwrite=not started)
    return SplitFolder(folder.data, name=chosen.dataset)
