"""What the GPU benchmark runs: networks, random samples, training, rounds and personalization."""

from __future__ import annotations

import copy
import hashlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedml_spurious.common.seeds import Purpose, generator, integer_seed
from fedml_spurious.learning.losses import adversarial_disagreement, l2_distance
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.models import IMAGE_SIZES, build_model
from fedml_spurious.learning.state_dicts import State, clone_state, copy_state, load_state
from fedml_spurious.learning.training import LocalTraining, Step, train_locally
from fedml_spurious.learning.weighted_sum import average

CLIENTS = 5  # of a round
Loss = Callable[[nn.Module, Tensor], Tensor]
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """A network with the samples of a client.

    Attributes:
        network: name of the network.
        fc_width: width of its hidden layer.
        num_classes: number of logits.
        samples: training, validation and test samples of a client.
        batch_size: samples per batch.
        tuning_epochs: epochs of the personalization.
        epochs: local epochs of a round.
    """

    network: str
    fc_width: int
    num_classes: int
    samples: tuple[int, int, int]
    batch_size: int
    tuning_epochs: int
    epochs: int = 5

    def local_training(self, epochs: int | None = None) -> LocalTraining:
        """How a client trains; without ``epochs`` as in a round."""
        return LocalTraining(epochs or self.epochs, self.batch_size)

    def model(self, device: torch.device, seed: int = 0) -> nn.Module:
        """The network with its first weights."""
        side = IMAGE_SIZES[self.network]
        options = {"num_classes": self.num_classes, "fc_width": self.fc_width, "seed": seed}
        return build_model(self.network, image_shape=(side, side, 3), **options).to(device)


# fedml_configs/mnist.yaml and coil20.yaml: 72:8:20 of 1,400 and of about 29 samples a client.
FULL = {
    "mnist": Size("cnn_28x28", 4096, 10, (1008, 112, 280), 64, 5),
    "coil20": Size("cnn_64x64", 4096, 20, (21, 2, 6), 8, 10),
    "small": Size("cnn_28x28", 128, 10, (112, 12, 30), 16, 5),
}
QUICK = {
    "mnist": Size("cnn_28x28", 16, 10, (4, 2, 2), 2, 1, epochs=1),
    "coil20": Size("cnn_64x64", 8, 20, (4, 2, 2), 4, 1, epochs=1),
    "small": Size("cnn_28x28", 8, 10, (4, 2, 2), 2, 1, epochs=1),
}


@dataclass(frozen=True)
class Samples:
    """Random samples of one client: images (N, 3, H, W) in [0, 1], labels (N,), and what ``ours`` adds.

    Attributes:
        x: training images.
        y: their classes.
        x_adv: adversarial examples.
        z_g: probabilities of the global model on them, shape (N, K).
        aligned: bool, shape (N,).
    """

    x: Tensor
    y: Tensor
    x_adv: Tensor
    z_g: Tensor
    aligned: Tensor

    def to(self, device: torch.device) -> Samples:
        """The same samples on a device."""
        return Samples(*(value.to(device) for value in vars(self).values()))


def make_samples(size: Size, client: int, device: torch.device, count: int | None = None) -> Samples:
    """The same random samples on every device."""
    rng = np.random.default_rng([client, size.fc_width])
    count, side = count or size.samples[0], IMAGE_SIZES[size.network]
    image = rng.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    x = torch.from_numpy(image).float().div_(255)
    y = torch.from_numpy(rng.integers(0, size.num_classes, count))
    z_g = torch.from_numpy(rng.random((count, size.num_classes), dtype=np.float32)).softmax(dim=1)
    aligned = torch.from_numpy(rng.random(count) < 0.9)
    return Samples(x, y, (x + 0.01).clamp(max=1), z_g, aligned).to(device)


def objectives(samples: Samples, global_model: nn.Module) -> dict[str, Loss]:
    """The objectives of a round and of four methods, written with the package's own terms.

    The methods' classes need pydantic, which a bare image lacks; a test compares the values with theirs. Like
    there, a batch gathers images, labels and groups, and adversarial examples where the loss reads them.
    """
    w_g = tuple(parameter.detach() for parameter in global_model.parameters())

    def round_loss(model: nn.Module, rows: Tensor) -> Tensor:
        return F.cross_entropy(model(samples.x[rows]), samples.y[rows])

    def tuned(model: nn.Module, rows: Tensor, lam_adv: float, lam_l2: float) -> Tensor:
        x, y, _ = samples.x[rows], samples.y[rows], samples.aligned[rows]
        if lam_adv:
            logits, logits_adv = model(torch.cat([x, samples.x_adv[rows]])).chunk(2)
            disagreement = adversarial_disagreement(logits_adv, samples.z_g[rows])
            loss = F.cross_entropy(logits, y) + lam_adv * disagreement
        else:
            loss = F.cross_entropy(model(x), y)
        if lam_l2:
            loss = loss + lam_l2 * l2_distance(model.parameters(), w_g)
        return loss

    return {
        "round": round_loss,
        "ft": lambda model, rows: tuned(model, rows, 0.0, 0.0),
        "adv": lambda model, rows: tuned(model, rows, 1.0, 0.0),
        "l2": lambda model, rows: tuned(model, rows, 0.0, 0.1),
        "ours": lambda model, rows: tuned(model, rows, 1.0, 0.1),
    }


def local_steps(
    model: nn.Module, training: LocalTraining, samples: Samples, loss: Loss, *, client: int = 0
) -> Iterator[Step]:
    """Training steps of one client, in the package's own loop."""
    count = len(samples.y)
    return train_locally(
        model,
        training,
        sequence=lambda epoch: generator(0, Purpose.LOCAL_BATCHES, 0, client, epoch).permutation(count),
        loss=loss,
        noise=lambda batch: integer_seed(0, Purpose.LOCAL_NOISE, 0, client, batch),
        device=samples.y.device,
    )


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the bytes of a state dictionary."""
    found = hashlib.sha256()
    for name, value in state.items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def same_bits(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two finite state dictionaries on one device are equal to the last bit."""
    return all(torch.equal(value, second[name]) for name, value in first.items())


@dataclass
class Bench:
    """Where and how often to measure.

    Attributes:
        device: what is measured.
        sizes: by name.
        repeats: of every timing, after a warm-up.
        found: median seconds by name, for the extrapolation.
    """

    device: torch.device
    sizes: dict[str, Size]
    repeats: int
    found: dict[str, float]

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def time(self, work: Callable[[], Any]) -> tuple[float, str]:
        """Median seconds of a piece of work with the device drained before and after, and the spread."""
        seconds = []
        for _ in range(self.repeats + 1):
            self.wait()
            begin = time.perf_counter()
            work()
            self.wait()
            seconds.append(time.perf_counter() - begin)
        return middle(seconds[1:])

    def row(self, name: str, work: Callable[[], Any], **others: Any) -> Row:
        """A row of a table: what was done, the median and the spread in ms."""
        median, spread = self.time(work)
        self.found[name] = median
        return {"what": name, "ms": median * 1e3, "spread": spread, **others}


def middle(seconds: Sequence[float]) -> tuple[float, str]:
    """Median, and the smallest and largest value in ms."""
    return statistics.median(seconds), f"{min(seconds) * 1e3:.4g} - {max(seconds) * 1e3:.4g}"


def prepare_device(name: str) -> torch.device:
    """The device with the determinism of a run; see ``fedml_spurious.experiment.device``."""
    device = torch.device(name)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first use of cuBLAS
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    return device


def move(state: Mapping[str, Tensor], device: torch.device) -> State:
    """A copy of a state dictionary on a device."""
    return {name: value.to(device, copy=True) for name, value in state.items()}


def round_over_host(model: nn.Module, size: Size, clients: Sequence[Samples], device: torch.device) -> None:
    """A round as FedML does it: samples and weights travel for every client, the CPU sums."""
    start, updates = copy_state(model), []
    for index, samples in enumerate(clients):
        load_state(model, start)
        train_client(model, size, samples.to(device), index)
        updates.append((len(samples.y), copy_state(model)))
    load_state(model, average(updates))


def round_on_device(model: nn.Module, size: Size, clients: Sequence[Samples], device: torch.device) -> None:
    """The same round as our simulator does it: samples, weights and sum stay on the device."""
    start, updates = clone_state(model), []
    for index, samples in enumerate(clients):
        load_state(model, start)
        train_client(model, size, samples, index)
        updates.append((len(samples.y), clone_state(model)))
    load_state(model, average(updates))


def train_client(model: nn.Module, size: Size, samples: Samples, client: int) -> float:
    """Train one client for a round; its mean loss."""
    loss = objectives(samples, model)["round"]
    steps = local_steps(model, size.local_training(), samples, loss, client=client)
    return float(torch.stack([step.loss for step in steps]).mean())


def personalize(
    global_model: nn.Module, size: Size, train: Samples, val: Samples, test: Samples, method: str
) -> None:
    """Fine-tune one client, keep the best epoch, and measure it, with the costs of the package's loop."""
    model = copy.deepcopy(global_model)
    loss = objectives(train, global_model)[method]
    best, best_score, state = model, -math.inf, State()
    for step in local_steps(model, size.local_training(size.tuning_epochs), train, loss):
        if step.epoch_ends:
            score = evaluate(model, val.x, val.y).correct
            if method == "ours":  # whose score alone reads the adversarial examples
                evaluate(model, val.x_adv, val.y)
            if score > best_score:
                best_score = score
                state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    best = copy.deepcopy(global_model)
    load_state(best, state)
    for images in (test.x, test.x, test.x_adv):
        evaluate(best, images, test.y)
