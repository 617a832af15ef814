"""How much memory a run takes, and how large its folder becomes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.data import SplitFiles
from fedml_spurious.doctor.spans import Span
from fedml_spurious.doctor.speeds import Machine, Speeds
from fedml_spurious.personalization import GLOBAL

_COPIES = 12  # of the weights, that the server of several processes holds: sums in double precision, messages
_PASSES = Span(1, 1.5, 2.5)  # of a batch at the same time: one, or two where there are adversarial examples
_TEXT_BYTES = 60_000  # of tables, log and descriptions
_REPORT_BYTES = 400_000
_FLOAT_BYTES = 4


def peak_memory(
    settings: Settings, data: SplitFolder, clients: Sequence[str], speeds: Speeds, machine: Machine
) -> tuple[Span, Span]:
    """Bytes of the largest process, and of all processes at the same time."""
    worker = Span.of(machine.peak + _samples_in_memory(settings, data, clients))
    worker += _PASSES * speeds.unseen_bytes
    if machine.size == 1:
        return worker, worker
    server = Span.of(machine.base + _COPIES * speeds.weights)
    return max(worker, server, key=lambda span: span.middle), worker * machine.workers + server


def _samples_in_memory(settings: Settings, data: SplitFolder, clients: Sequence[str]) -> float:
    """Samples that are kept as bytes, and those of one client as numbers with its attacked images."""
    pixels = math.prod(data.image_shape)
    counts = {client: sum(meta.counts.values()) for client, meta in data.meta.clients.items()}
    kept = min(sum(counts.values()) * pixels, settings.data_args.cache_mb * 1e6)
    return kept + 2 * _FLOAT_BYTES * pixels * max(counts[client] for client in clients)


def folder_size(
    settings: Settings, data: SplitFolder, clients: Sequence[str], speeds: Speeds, files: SplitFiles
) -> Span:
    """Bytes of the run folder."""
    seeds, results = len(settings.fl_seeds), _results(settings) * len(clients)
    models = 2 * seeds  # model.pt and checkpoint.pt
    models += seeds if settings.personalization_args.batchnorm == "recalibrate" else 0
    # The global model is no personal one, and is there already.
    personal = results - seeds * len(clients) if GLOBAL in settings.methods() else results
    models += personal if settings.personalization_args.save_models else 0
    # Rows stand in the results of the run too, and those with options a second time.
    lines = 2 * results + seeds * settings.train_args.comm_round
    text = _TEXT_BYTES + lines * speeds.row_bytes
    report = _REPORT_BYTES if settings.experiment_args.report else 0
    return Span.of(files.nbytes + models * speeds.weights + text + report)


def _results(settings: Settings) -> int:
    """Results of a client that are kept, trials among them."""
    grids, experiment = settings.grids(), settings.experiment_args
    seeds, pairs = len(settings.fl_seeds), len(settings.fl_seeds) * len(experiment.personalization_seeds)
    found = 0
    for name in settings.methods():
        sizes = [len(values) for values in grids.get(name, {}).values()]
        if name == GLOBAL:
            found += seeds
        elif experiment.trials == "all" and sizes:
            found += math.prod(sizes) * pairs
        else:  # one of the trials is a final result too
            found += pairs + (sum(sizes) - len(sizes) if sizes else 0)
    return found
