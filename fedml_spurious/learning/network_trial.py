"""One trial of a network of the user's own on made-up images, before anything is written.

Whatever the run will do with the network later is done once here, so that a network that cannot be trained,
attacked, copied, averaged or measured is refused in words, and not after all rounds were trained.
"""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.common.blame import describe, users_line
from fedml_spurious.common.errors import DivergedError, InputError
from fedml_spurious.learning.modes import frozen
from fedml_spurious.learning.state_dicts import State, copy_state, load_state, named_state
from fedml_spurious.learning.training import BatchNormMode, LocalTraining, train_locally
from fedml_spurious.learning.weighted_sum import average

_RATE = 1e-4  # of the paper; a network that works diverges with none as small


@dataclass(frozen=True)
class SmallestBatch:
    """The smallest batch that a client trains on.

    Attributes:
        size: its number of images.
        client: id of the client.
        samples: number of training samples of the client.
        batchnorm_mode: how BatchNorm layers normalise it.
    """

    size: int
    client: str
    samples: int
    batchnorm_mode: BatchNormMode


def made_up_images(count: int, image_shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Images of noise, always the same.

    Args:
        count: number of images.
        image_shape: height, width and channels.
        device: where the images are made.

    Returns:
        Shape (count, C, H, W), values in [0, 1).
    """
    height, width, channels = image_shape
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, height, width, generator=generator).to(device)


def try_network(
    make: Callable[[], nn.Module],
    *,
    name: str,
    num_classes: int,
    image_shape: tuple[int, int, int],
    smallest: Sequence[SmallestBatch],
    device: torch.device,
) -> nn.Module:
    """Evaluate, attack, train, copy, store and average a network once.

    Args:
        make: makes the network with its initial weights; the same in every call.
        name: of the network in the configuration.
        num_classes: number of logits, K.
        image_shape: height, width and channels of the images.
        smallest: the smallest batches of the run.
        device: where the run computes.

    Returns:
        A network that ``make`` made, whose weights the trial has changed.

    Raises:
        InputError: the network cannot do something that a run needs; the message says what.
    """
    with torch.random.fork_rng(), _refusing(name, "is made"):
        model, other = make().to(device), make().to(device)
        _require_trainable(model)
        _require_made_anew(model, other)
        images = made_up_images(max(2, *(batch.size for batch in smallest)), image_shape, device)
        with _refusing(name, "evaluates two images"):
            _require_logits(model, images[:2], num_classes)
        with _refusing(name, "evaluates one image"):
            _evaluate(model, images[:1], num_classes)
        with _refusing(name, "is attacked (the gradient of its loss in the images)"):
            _require_input_gradient(model, images[:2])
        for batch in smallest:
            with _refusing(name, _trains_on(batch)):
                _train(model, images[: batch.size], num_classes, batch.batchnorm_mode)
        with _refusing(name, "is copied after it was trained"):
            _require_copy(model)
        with _refusing(name, "is averaged, stored and loaded"):
            _require_round_trip(model, other, images[:2], num_classes)
    return other


class _Refused(Exception):
    """Why a network does not do."""


@contextmanager
def _refusing(name: str, doing: str) -> Iterator[None]:
    """Say of which network it is, and what was done with it, where something fails."""
    try:
        yield
    except InputError:
        raise
    except _Refused as problem:
        raise InputError(f"model_args.model: {name} {problem}") from None
    except DivergedError as error:
        raise InputError(
            f"model_args.model: {name} {doing}, and {error}, on made-up images with values from 0 to 1; mend "
            "the network"
        ) from None
    except (Exception, SystemExit) as error:
        place = users_line(error)
        raise InputError(
            f"model_args.model: when {name} {doing}: {describe(error)}{f' ({place})' if place else ''}; mend "
            "the network"
        ) from error


def _trains_on(smallest: SmallestBatch) -> str:
    images = "one image" if smallest.size == 1 else f"{smallest.size} images"
    return (
        f"trains on a batch of {images}, the smallest of client {smallest.client} with its "
        f"{smallest.samples} training sample{'' if smallest.samples == 1 else 's'}"
    )


def _require_trainable(model: nn.Module) -> None:
    if any(nn.parameter.is_lazy(value) for value in (*model.parameters(), *model.buffers())):
        raise _Refused(
            "has lazy layers, whose weights have no size before a first image; give their sizes, or call the "
            "network once in the factory"
        )
    parameters = dict(model.named_parameters())
    if not any(value.requires_grad for value in parameters.values()):
        raise _Refused(
            "has nothing to train: " + ("all parameters are frozen" if parameters else "no parameter")
        )
    other = {key: value.dtype for key, value in parameters.items() if value.dtype != torch.float32}
    if other:
        key, kind = next(iter(other.items()))
        raise _Refused(f"has the parameter {key} of type {_short(kind)}; expected float32")
    tensors = {key: value for key, value in model.state_dict().items() if not isinstance(value, Tensor)}
    if tensors:
        raise _Refused(
            f"keeps {next(iter(tensors))} in its state dictionary, which is no tensor and cannot be "
            "averaged; drop get_extra_state, or make it a buffer"
        )


def _require_made_anew(model: nn.Module, other: nn.Module) -> None:
    shared = {id(value) for value in model.parameters()} & {id(value) for value in other.parameters()}
    if shared:
        raise _Refused("has the same parameters in every call; make new ones in the factory")
    first, second = named_state(model), named_state(other)
    changed = [key for key in first if key not in second or not torch.equal(first[key], second[key])]
    if changed:
        raise _Refused(
            f"has another {changed[0]} in every call, though torch's generators were seeded alike; draw the "
            "initial weights with torch's own functions"
        )


def _evaluate(model: nn.Module, images: Tensor, num_classes: int) -> Tensor:
    """Logits in eval mode, as a run takes them."""
    before = images.clone()
    with frozen(model), torch.no_grad():
        logits: Tensor = model(images)
    _require_shape(logits, len(images), num_classes)
    if not torch.equal(images, before):
        raise _Refused(
            "changes the images that it is given, in place (x -= mean, x.sub_(mean), F.relu(x, "
            "inplace=True)); make new tensors of them (x = x - mean)"
        )
    if not bool(logits.isfinite().all()):
        raise DivergedError("its outputs are not finite")
    return logits


def _require_shape(logits: object, count: int, num_classes: int) -> None:
    expected = f"expected logits of shape ({count}, {num_classes}) and type float32"
    if not isinstance(logits, Tensor):
        raise _Refused(f"returns a {type(logits).__name__} for {_images(count)}; {expected}")
    if logits.shape != (count, num_classes) or logits.dtype != torch.float32:
        raise _Refused(
            f"returns shape {tuple(logits.shape)} and type {_short(logits.dtype)} for {_images(count)}; "
            f"{expected}"
        )


def _require_logits(model: nn.Module, images: Tensor, num_classes: int) -> None:
    with _draws_nothing_unseeded("in eval mode"):
        before = torch.get_rng_state()
        first, second = (_evaluate(model, images, num_classes) for _ in range(2))
        drawn = not torch.equal(before, torch.get_rng_state())
    if drawn or not torch.equal(first, second):
        raise _Refused(
            "draws random numbers in eval mode, so that no measurement could be made twice (F.dropout "
            "without training=self.training?); switch it off where self.training is false"
        )


@contextmanager
def _draws_nothing_unseeded(when: str) -> Iterator[None]:
    """Torch's generators are seeded for every batch; nobody seeds the others."""
    before = _other_generators()
    yield
    if _other_generators() != before:
        raise _Refused(
            f"draws from the global generator of Python or NumPy {when}, which is not seeded for it; draw "
            "with torch's own functions"
        )


def _other_generators() -> tuple[Any, ...]:
    _, keys, place, *_ = np.random.get_state(legacy=True)  # noqa: NPY002  # the global one is what is watched
    return random.getstate(), bytes(np.asarray(keys)), place


def _require_input_gradient(model: nn.Module, images: Tensor) -> None:
    x = images.clone().requires_grad_(True)
    with frozen(model), torch.enable_grad():
        logits = model(x)
        if not logits.requires_grad:
            raise _Refused(
                "has outputs without a gradient in the images, so that it cannot be attacked (torch.no_grad, "
                "detach?)"
            )
        loss = F.cross_entropy(logits, torch.zeros(len(x), dtype=torch.int64, device=x.device))
        (gradient,) = torch.autograd.grad(loss, x, allow_unused=True)
    if gradient is None:
        raise _Refused("has outputs that do not depend on the images")
    if not bool(gradient.isfinite().all()):
        raise DivergedError("the gradients of its loss in the images are not finite")


def _train(model: nn.Module, images: Tensor, num_classes: int, mode: BatchNormMode) -> None:
    device = images.device
    y = torch.arange(len(images), device=device) % num_classes

    def loss(net: nn.Module, rows: Tensor) -> Tensor:
        logits = net(images[rows])
        _require_shape(logits, len(rows), num_classes)
        if not logits.requires_grad:
            raise _Refused("has outputs that depend on no parameter that trains")
        return F.cross_entropy(logits, y[rows])

    settings = LocalTraining(1, len(images), _RATE, batchnorm_mode=mode)
    with _draws_nothing_unseeded("in training"):
        for _ in train_locally(
            model, settings, sequence=lambda _: np.arange(len(images)), loss=loss, noise=int, device=device
        ):
            pass


def _require_copy(model: nn.Module) -> None:
    kept = [
        f"{module_name}.{key}".lstrip(".")
        for module_name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, Tensor) and value.grad_fn is not None
    ]
    if kept:
        raise _Refused(
            f"keeps {kept[0]}, a tensor of its last pass with its graph, and cannot be copied with it; keep "
            ".detach() of it, or nothing"
        )
    copy.deepcopy(model)


def _require_round_trip(model: nn.Module, other: nn.Module, images: Tensor, num_classes: int) -> None:
    state = copy_state(model)
    _require_readable(state)
    load_state(other, average([(1, state), (2, state)]))
    expected, actual = (_evaluate(net, images, num_classes) for net in (model, other))
    if not torch.allclose(actual, expected, rtol=1e-3, atol=1e-4):
        raise _Refused(
            "gives other outputs after its state dictionary was loaded into a new one: it keeps something "
            "that changes in training and is neither a parameter nor a buffer; register it"
        )


def _require_readable(state: State) -> None:
    """Torch reads with ``weights_only`` what it takes for tensors; their type tells, the values cost time."""
    buffer = io.BytesIO()
    torch.save({key: value.new_empty(0) for key, value in state.items()}, buffer)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)


def _short(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


def _images(count: int) -> str:
    return "one image" if count == 1 else f"{count} images"
