"""The BatchNorm policy between the federated step and the personalization step."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence

from rich.console import Console
from torch import nn

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.progress import Stage, stage
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import BatchNormSums, Workers, in_order
from fedml_spurious.learning.batchnorm import layers_in_forward_order, pooled, replace_statistics
from fedml_spurious.learning.checkpoints import load_checked, load_tensors, save_tensors
from fedml_spurious.learning.state_dicts import copy_state

logger = logging.getLogger(__name__)


def apply_batchnorm_policy(
    settings: Settings,
    data: SplitFolder,
    folder: RunFolder,
    workers: Workers,
    models: Mapping[int, nn.Module],
    console: Console,
) -> Mapping[int, nn.Module]:
    """The global models that the personalization step starts from.

    Only ``recalibrate`` changes them here; ``local`` is done where a client's samples are.

    Args:
        settings: settings of the run.
        data: client split files, of which only the description is read here.
        folder: run folder; recalibrated models are kept in it beside the averaged ones.
        workers: who sums what the layers see.
        models: finished global models by federated seed; left as they are.
        console: where progress goes.

    Returns:
        Models by federated seed.

    Raises:
        InputError: what is stored is broken, or a layer sees too few values.
    """
    policy = settings.personalization_args.batchnorm
    layers = layers_in_forward_order(next(iter(models.values())), data.image_shape)
    if policy != "aggregate" and not layers:
        logger.info(
            "personalization_args.batchnorm: %s has no effect: the network keeps no running statistics",
            policy,
        )
    if policy != "recalibrate" or not layers:
        return models
    found = {}
    with stage(console, "BatchNorm statistics", total=len(models) * len(layers)) as bar:
        for fl_seed, model in models.items():
            path = folder.global_part(fl_seed) / "recalibrated.pt"
            copied = copy.deepcopy(model)
            if path.exists():
                load_checked(copied, load_tensors(path), path)
                bar.skip(len(layers))
            else:
                _recalibrate(copied, layers, workers, data.client_ids, f"fl{fl_seed}", bar)
                save_tensors(path, copy_state(copied))
            found[fl_seed] = copied
    return found


def _recalibrate(
    model: nn.Module, layers: Sequence[str], workers: Workers, clients: Sequence[str], name: str, bar: Stage
) -> None:
    for layer in layers:
        workers.use(model, f"{name} before {layer}")
        parts = in_order(workers, [BatchNormSums(client, layer) for client in clients])
        replace_statistics(model, layer, pooled(parts))
        bar.advance(f"{name} {layer}")
