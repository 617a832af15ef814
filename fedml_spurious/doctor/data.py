"""The clients of a run before their split files are there, and what it takes to write these."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from data_partition.partition import Raw
from data_partition.registry import PARTITIONS
from data_partition.split_files.federation import (
    Federation,
    ImageReader,
    PlannedClient,
    PlannedSamples,
    write_federation,
)
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.advice import advising_a_run
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.inputs import SplitsBySeed

_WRITTEN = 1000  # images or little more, in all splits of the clients, are written to see what it takes


@dataclass(frozen=True)
class SplitFiles:
    """What the split files that a run makes for itself take.

    Attributes:
        seconds: to plan and to write them, for all federated seeds.
        nbytes: their size.
    """

    seconds: float = 0.0
    nbytes: float = 0.0


def foresee_data(
    settings: Settings, scratch: Path, clock: Callable[[], float] = time.perf_counter
) -> tuple[SplitsBySeed, SplitFiles]:
    """Open the split files, or plan them: descriptions alone, with the images of few clients written.

    Args:
        settings: settings of the run.
        scratch: an empty folder.
        clock: tells the time in seconds.

    Returns:
        Descriptions by federated seed, those of the first for all; and what making the files takes.

    Raises:
        InputError: split files or raw files are absent or damaged, or the options do not fit them.
    """
    chosen = settings.data_args
    if chosen.partition is None:
        described = settings.common_args.training_type == "cross_silo"  # the server needs no samples
        place = Path(chosen.data_cache_dir or "").expanduser()
        splits = SplitFolder(place, name=chosen.dataset, files=not described)
        return dict.fromkeys(settings.fl_seeds, splits), SplitFiles()
    raw = Path(chosen.raw).expanduser() if chosen.raw else None
    with advising_a_run(chosen.dataset):
        began = clock()
        options = chosen.partition.of(settings.fl_seeds[0])
        federation = PARTITIONS[chosen.dataset].plan(options, Raw(raw))
        planned = clock() - began
        counts = scratch / "counts"
        write_federation(replace(federation, images=None), counts)
        cost = _write_few(federation, scratch / "written", clock)
    partitions = len(settings.fl_seeds) if settings.own_partitions else 1
    files = SplitFiles((planned + cost.seconds) * partitions, cost.nbytes * partitions)
    return dict.fromkeys(settings.fl_seeds, SplitFolder(counts, files=False)), files


def _write_few(federation: Federation, out: Path, clock: Callable[[], float]) -> SplitFiles:
    """Write some images of the first clients, and take all to be like them."""
    sizes = [sum(len(samples.rows) for samples in one.splits.values()) for one in federation.clients]
    count = next((number for number in range(1, len(sizes)) if sum(sizes[:number]) >= _WRITTEN), len(sizes))
    keep = min(1.0, _WRITTEN / max(1, sum(sizes[:count])))
    few, images = [_part(client, keep) for client in federation.clients[:count]], federation.images
    written = sum(len(samples.rows) for client in few for samples in client.splits.values())
    if images is None or not written:
        return SplitFiles()

    @contextmanager
    def first(folder: Path) -> Iterator[Iterator[ImageReader]]:
        with images(folder) as readers:
            yield islice(readers, count)

    began = clock()
    write_federation(replace(federation, clients=few, images=first), out)
    share = sum(sizes) / written
    nbytes = sum(path.stat().st_size for path in out.iterdir())
    return SplitFiles((clock() - began) * share, nbytes * share)


def _part(client: PlannedClient, keep: float) -> PlannedClient:
    """A client with a share of its samples in every split, at least one of each."""
    splits = {}
    for split, samples in client.splits.items():
        count = math.ceil(len(samples.rows) * keep)
        splits[split] = PlannedSamples(samples.rows[:count], samples.label[:count], samples.spurious[:count])
    return replace(client, splits=splits)
