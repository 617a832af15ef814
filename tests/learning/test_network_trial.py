"""Networks as people write them: each one trains, or is refused in words before a run begins."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.models import build_model
from fedml_spurious.learning.network_trial import SmallestBatch, try_network

SHAPE, CLASSES = (6, 6, 3), 3
Forward = Callable[[Any, Tensor], Any]


def body() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES)
    )


class Net(nn.Module):
    """A plain network with another forward pass, and what ``setup`` adds."""

    def __init__(self, forward: Forward | None = None, setup: Callable[[Any], object] | None = None) -> None:
        super().__init__()
        self.body = body()
        self.pass_of = forward or (lambda self, x: self.body(x))
        if setup is not None:
            setup(self)

    def forward(self, x: Tensor) -> Any:
        return self.pass_of(self, x)


def attempt(make: Callable[[], Any], *, size: int = 4, mode: Any = "batch") -> nn.Module:
    def seeded() -> nn.Module:
        torch.manual_seed(0)
        return make()

    return try_network(
        seeded,
        name="my:net",
        num_classes=CLASSES,
        image_shape=SHAPE,
        smallest=[SmallestBatch(size, "0003", size, mode)],
        device=torch.device("cpu"),
    )


def keep(self: Any, x: Tensor) -> Tensor:
    self.features = self.body[:3](x)
    return self.body[3:](self.features)


def count(self: Any, x: Tensor) -> Tensor:
    """Something outside of the state dictionary that training changes."""
    if self.training:
        self.offset = self.offset + 1
    return self.body(x) + self.offset * torch.arange(3)


def hooked(self: Any) -> None:
    self.body[0].register_forward_hook(lambda module, _, output: setattr(module, "features", output))


def buffers(self: Any) -> None:
    """Of every type that a module may have."""
    kinds = (
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float64",
        "complex64",
    )
    for name in kinds:
        self.register_buffer(f"of_{name}", torch.ones(2, dtype=getattr(torch, name)))
    self.register_buffer("nothing", torch.empty(0))
    self.register_buffer("absent", None)
    self.register_buffer("passing", torch.ones(1), persistent=False)


class WithExtra(Net):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}


def drawn_weights() -> nn.Module:
    model = body()
    nn.init.constant_(model[0].weight, np.random.rand())  # noqa: NPY002 - what users do
    return model


ONE = body()

WORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "buffers of any type": lambda: Net(setup=buffers),
    "a hook that keeps what is detached": lambda: Net(
        setup=lambda self: self.body[0].register_forward_hook(
            lambda module, _, output: setattr(module, "features", output.detach())
        )
    ),
    "frozen body": lambda: Net(setup=lambda self: self.body[0].requires_grad_(False)),
    "tied weights": lambda: Net(setup=lambda self: setattr(self, "again", self.body[4])),
    "dropout in training": lambda: Net(lambda self, x: F.dropout(self.body(x), 0.5, self.training)),
    "compiled": lambda: torch.compile(body(), backend="eager"),
    "without BatchNorm": lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, CLASSES)),
}

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "in-place normalisation": (lambda: Net(lambda self, x: self.body(x.sub_(0.5))), "changes the images"),
    "in place where it may": (
        lambda: Net(lambda self, x: self.body(x.div_(2) if not x.requires_grad else x / 2)),
        "changes the images that it is given, in place",
    ),
    "dropout in eval mode": (lambda: Net(lambda self, x: F.dropout(self.body(x), 0.5)), "in eval mode"),
    "noise of NumPy in eval mode": (
        lambda: Net(lambda self, x: self.body(x) + np.random.rand()),  # noqa: NPY002
        "global generator of Python or NumPy in eval mode",
    ),
    "noise of Python in training": (
        lambda: Net(lambda self, x: self.body(x) + (random.random() if self.training else 0)),
        "global generator of Python or NumPy in training",
    ),
    "keeps features": (lambda: Net(keep), "keeps features, a tensor of its last pass"),
    "a hook that keeps features": (lambda: Net(setup=hooked), "keeps body.0.features"),
    "five logits": (lambda: Net(lambda self, x: F.pad(self.body(x), (0, 2))), r"shape \(2, 5\).*\(2, 3\)"),
    "squeezed": (lambda: Net(lambda self, x: self.body(x).squeeze(0)), r"shape \(3,\).*for one image"),
    "a tuple": (lambda: Net(lambda self, x: (self.body(x), x)), "returns a tuple for 2 images"),
    "double": (lambda: Net(lambda self, x: self.body(x).double()), "type float64.*float32"),
    "double weights": (lambda: Net(setup=lambda self: self.double()), "of type float64; expected float32"),
    "half weights": (lambda: Net(setup=lambda self: self.half()), "of type float16; expected float32"),
    "NaN": (lambda: Net(lambda self, x: self.body(x) * torch.nan), "outputs are not finite"),
    "log of 0": (
        lambda: Net(lambda self, x: self.body(x) + (x - x).sqrt().flatten(1)[:, :3]),
        "gradients of its loss in the images are not finite",
    ),
    "NaN in training": (
        lambda: Net(lambda self, x: self.body(x) * (torch.nan if self.training else 1)),
        "trains on a batch of 4 images.*the loss is nan",
    ),
    "no parameter": (lambda: nn.Flatten(), "nothing to train: no parameter"),
    "all frozen": (lambda: Net(setup=lambda self: self.requires_grad_(False)), "all parameters are frozen"),
    "detached": (lambda: Net(lambda self, x: self.body(x).detach()), "without a gradient in the images"),
    "constant": (
        lambda: Net(lambda self, x: self.body(x * 0 + 1).detach() + self.body[4].bias),
        "without a gr",
    ),
    "trains nothing": (
        lambda: Net(lambda self, x: x.flatten(1)[:, :3] if self.training else self.body(x)),
        "depend on no parameter that trains",
    ),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES)), "has lazy layers"),
    "extra state": (WithExtra, "keeps _extra_state in its state dictionary"),
    "state outside": (
        lambda: Net(count, lambda self: setattr(self, "offset", 0)),
        "neither a parameter nor a",
    ),
    "one module": (lambda: ONE, "the same parameters in every call"),
    "weights of NumPy": (drawn_weights, "has another 0.weight in every call"),
    "fails": (
        lambda: Net(lambda self, x: self.missing(x)),
        r"AttributeError.*test_network_trial.py, line \d+",
    ),
    "exits": (lambda: Net(lambda self, x: exit("no licence")), "SystemExit: no licence"),
    "other images": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(99, CLASSES)),
        "evaluates two images: Runti",
    ),
}


@pytest.mark.parametrize("kind", WORKS)
def test_a_network_that_a_run_can_use_passes(kind: str) -> None:
    before = torch.get_rng_state()
    attempt(WORKS[kind])
    if kind != "compiled":  # what compiles may draw
        torch.manual_seed(0)
        expected = torch.get_rng_state()
        torch.set_rng_state(before)
        attempt(lambda: WORKS[kind]())
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(expected, before)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_that_a_run_cannot_use_is_refused_in_words(kind: str) -> None:
    make, expected = REFUSED[kind]
    with pytest.raises(InputError, match=f"model_args.model: .*my:net.*{expected}"):
        attempt(make)


@pytest.mark.parametrize(
    ("size", "mode", "works"), [(2, "batch", True), (1, "batch", False), (1, "frozen", True)]
)
def test_a_batch_as_small_as_the_smallest_client_s(size: int, mode: str, works: bool) -> None:
    """ResNet-18 has one value per channel at its end for images this small."""
    import torchvision

    def make() -> nn.Module:
        return torchvision.models.resnet18(num_classes=CLASSES)

    if works:
        attempt(make, size=size, mode=mode)
        return
    with pytest.raises(InputError, match="a batch of one image, the smallest of client 0003 with its 1"):
        attempt(make, size=size, mode=mode)


def factory(num_classes: int, image_shape: tuple[int, int, int], fc_width: int) -> nn.Module:
    raise ZeroDivisionError("width")


def needs_more(num_classes: int, image_shape: tuple[int, int, int], fc_width: int, depth: int) -> nn.Module:
    return body()


def positional(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return body()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("factory", r"fails with ZeroDivisionError: width \(.*test_network_trial.py, line \d+, in factory\)"),
        ("needs_more", r"by keyword \(missing a required argument: 'depth'\)"),
        ("positional", r"by keyword \(got an unexpected keyword argument 'fc_width'\)"),
        ("ONE", "is a module, expected a function or class that makes a new one"),
        ("SHAPE", "is a tuple, expected a callable"),
    ],
)
def test_a_factory_that_makes_none_is_refused(name: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        build_model(f"{__name__}:{name}", num_classes=3, image_shape=SHAPE, fc_width=8, seed=0)


@pytest.mark.parametrize(("name", "side"), [("cnn_28x28", 28), ("cnn_64x64", 64)])
def test_the_paper_s_networks_need_no_trial_because_they_pass_it(name: str, side: int) -> None:
    shape = (side, side, 3)
    try_network(
        lambda: build_model(name, num_classes=3, image_shape=shape, fc_width=8, seed=0),
        name=name,
        num_classes=3,
        image_shape=shape,
        smallest=[SmallestBatch(1, "0000", 1, mode) for mode in ("batch", "frozen")],
        device=torch.device("cpu"),
    )
