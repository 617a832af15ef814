"""Two models that are not ours: any PyTorch classifier, on one client of split files."""

from __future__ import annotations

import copy
import inspect
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.audit.client import AuditOptions, Reference, judge_model, load_images, own_images
from fedml_spurious.audit.files import finding_cells
from fedml_spurious.audit.peers import PeerCounts, choose_peers, count_at_peer
from fedml_spurious.audit.summary import Audited, Told, summarize
from fedml_spurious.common.blame import describe_with_place
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.imports import import_object
from fedml_spurious.learning.modes import frozen
from fedml_spurious.learning.state_dicts import load_state, state_mismatch

_CPU = torch.device("cpu")
_METHOD = "personal"
"""What the personal model is called where methods are named."""


@dataclass(frozen=True)
class ForeignModels:
    """What is audited.

    Attributes:
        global_file: state dictionary of the global model.
        personal_file: that of the personal model.
        network: ``module:factory`` that makes their network.
        data: folder of client split files.
        client: id of the client.
    """

    global_file: Path
    personal_file: Path
    network: str
    data: Path
    client: str


def audit_foreign(models: ForeignModels, options: AuditOptions) -> Audited:
    """Audit two models on one client.

    Raises:
        InputError: a file is absent or does not fit, there is no such client, or the network fails.
    """
    if options.truth:
        raise InputError("--truth: reads the results of a run; give run folders, or leave it out")
    data, client = SplitFolder(models.data), models.client
    if client not in data.client_ids:
        raise InputError(
            f"--client: no client {client!r} in {models.data}; there are {data.client_ids[0]} to "
            f"{data.client_ids[-1]}{data.meta.hint(client)}"
        )
    global_model, personal_model = (
        _load(option, path, models.network, data)
        for option, path in (("--global", models.global_file), ("--personal", models.personal_file))
    )
    with data.sealed():
        own = load_images(data, client, options, _CPU)
        for path, model in ((models.global_file, global_model), (models.personal_file, personal_model)):
            _try(f"{models.network} with the weights of {path}", model, own.images.x[:2], data.num_classes)
        reliance = Reference(global_model, own).compare(personal_model)
        counts = _ask_peers(data, client, global_model, personal_model) if options.peers else None
    finding = judge_model(reliance, counts, options)
    row = {"dataset": data.name, "method": _METHOD, "client": client, **finding_cells(finding, options)}
    examples = own.examples()
    summary = summarize({_METHOD: [Told(finding)]}, {_METHOD: finding}, options)
    return Audited([row], summary, examples)


def _ask_peers(
    data: SplitFolder, client: str, global_model: nn.Module, personal_model: nn.Module
) -> list[PeerCounts]:
    counts: list[PeerCounts] = []
    for peer in choose_peers(data.meta, client):
        images, _ = own_images(data, peer, _CPU)
        counts += count_at_peer(global_model, [personal_model], images, data.meta.clients[client].classes)
    return counts


def _load(option: str, path: Path, network: str, data: SplitFolder) -> nn.Module:
    """A network with the weights of a file."""
    model, state = make_network(network, data), _read_state(option, path)
    mismatch = state_mismatch(model, state)
    if mismatch:
        raise InputError(
            f"{option}: {path} does not fit {network}: {mismatch}; give the factory of its network"
        )
    load_state(model, state)
    return model


def make_network(name: str, data: SplitFolder) -> nn.Module:
    """What ``module:factory`` makes: a network, or a function or class that is called.

    A factory is given ``num_classes`` and ``image_shape`` (height, width, channels) where it takes them.

    Raises:
        InputError: there is no such object, it fails, or makes no network.
    """
    found = import_object(name, where="--model", beside="in the current folder")
    if isinstance(found, nn.Module):
        return copy.deepcopy(found)
    if not callable(found):
        raise InputError(
            f"--model: {name} is a {type(found).__name__}, expected a function that makes a network"
        )
    known: dict[str, Any] = {"num_classes": data.num_classes, "image_shape": data.image_shape}
    try:
        model = found(**_accepted(found, known))
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a user's code can raise anything
        raise InputError(
            f"--model: {name} fails with {describe_with_place(error)}; it is called "
            "with num_classes and image_shape by keyword where it takes them, and with nothing else"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(f"--model: {name} returned {type(model).__name__}, expected a torch.nn.Module")
    return model


def _accepted(factory: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Those of the known options that a factory takes."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some written in C have no signature
        return {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return known
    names = {one.name for one in parameters if one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)}
    return {name: value for name, value in known.items() if name in names}


def _read_state(option: str, path: Path) -> dict[str, Tensor]:
    expected = "expected a state dictionary, torch.save(model.state_dict(), FILE)"
    if not path.is_file():
        raise InputError(f"{option}: {path}: no such file; {expected}")
    try:
        state = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise InputError(
            f"{option}: {path}: cannot be read as weights ({type(error).__name__}); {expected}"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"{option}: {path}: holds no tensors by name; {expected}")
    return state


def _try(what: str, model: nn.Module, x: Tensor, num_classes: int) -> None:
    """Make sure that a network gives logits of these images."""
    try:
        with frozen(model), torch.no_grad():
            logits: object = model(x)
    except (Exception, SystemExit) as error:  # a user's code can raise anything
        raise InputError(
            f"--model: {what} fails on images of shape {tuple(x.shape)} with {describe_with_place(error)}"
        ) from error
    if not isinstance(logits, Tensor):
        found = f"a {type(logits).__name__}"
    elif logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < num_classes:
        found = f"a tensor of shape {tuple(logits.shape)}"
    elif not bool(logits.isfinite().all()):
        found = "values that are not finite"
    else:
        return
    raise InputError(
        f"--model: {what} gives {found} for images of shape {tuple(x.shape)}; expected finite logits of "
        f"shape ({len(x)}, {num_classes})"
    )
