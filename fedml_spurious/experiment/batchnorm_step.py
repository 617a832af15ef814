"""The BatchNorm policy between the federated step and the personalization step."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence

from torch import nn

from fedml_spurious.common.progress import Stage, stage
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.tasks import BatchNormSums, in_order
from fedml_spurious.learning.batchnorm import layers_in_forward_order, pooled, replace_statistics
from fedml_spurious.learning.checkpoints import load_checked, load_tensors, save_tensors
from fedml_spurious.learning.state_dicts import copy_state

logger = logging.getLogger(__name__)


def apply_batchnorm_policy(run: RunContext, models: Mapping[int, nn.Module]) -> Mapping[int, nn.Module]:
    """The global models that the personalization step starts from.

    Only ``recalibrate`` changes them here; ``local`` is done where a client's samples are.

    Args:
        run: the run; recalibrated models are kept in its folder beside the averaged ones.
        models: finished global models by federated seed; left as they are.

    Returns:
        Models by federated seed.

    Raises:
        InputError: what is stored is broken, or a layer sees too few values.
    """
    policy = run.settings.personalization_args.batchnorm
    fl_seed, model = next(iter(models.items()))
    layers = layers_in_forward_order(model, run.data[fl_seed].image_shape)
    if policy != "aggregate" and not layers:
        logger.info(
            "personalization_args.batchnorm: %s has no effect: the network keeps no running statistics",
            policy,
        )
    if policy != "recalibrate" or not layers:
        return models
    found = {}
    with stage(run.console, "BatchNorm statistics", total=len(models) * len(layers)) as bar:
        for fl_seed, model in models.items():
            path = run.folder.global_part(fl_seed) / "recalibrated.pt"
            copied = copy.deepcopy(model)
            if path.exists():
                load_checked(copied, load_tensors(path), path)
                bar.skip(len(layers))
            else:
                _recalibrate(copied, layers, run, fl_seed, bar)
                save_tensors(path, copy_state(copied))
            found[fl_seed] = copied
    return found


def _recalibrate(model: nn.Module, layers: Sequence[str], run: RunContext, fl_seed: int, bar: Stage) -> None:
    clients = run.data[fl_seed].client_ids
    for layer in layers:
        run.workers.use(model, fl_seed, f"fl{fl_seed} before {layer}")
        parts = in_order(run.workers, [BatchNormSums(client, layer) for client in clients])
        replace_statistics(model, layer, pooled(parts))
        bar.advance(f"fl{fl_seed} {layer}")
