"""What a run costs on one CUDA GPU, and whether it gives the same bits there.

    PYTHONPATH=. python examples/benchmarks/gpu.py --out /tmp/gpu

Needs torch, numpy, click and this repository; neither FedML nor pydantic, so that it also runs where only
torch is. The samples are random: times do not depend on what the pictures show. Without a GPU, or with
``--quick``, everything runs at a small size within seconds; those times say nothing about a GPU.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fedml_spurious
from fedml_spurious.common.seeds import Purpose, generator, integer_seed
from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.fedavg import State, WeightedSum, average, copy_state, load_state
from fedml_spurious.learning.losses import adversarial_disagreement, l2_distance
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.models import IMAGE_SIZES, build_model
from fedml_spurious.learning.modes import batchnorm_in_eval_mode, frozen
from fedml_spurious.learning.training import LocalTraining, Step, train_locally

CLIENTS = 5  # of a round
GRAPHS_PAY_ABOVE = 1.3  # host over device time of a step
ATTACK = Attack("linf", 0.031)
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
    there, every method's batch gathers all that any method may read.
    """
    w_g = tuple(parameter.detach() for parameter in global_model.parameters())

    def round_loss(model: nn.Module, rows: Tensor) -> Tensor:
        return F.cross_entropy(model(samples.x[rows]), samples.y[rows])

    def tuned(model: nn.Module, rows: Tensor, lam_adv: float, lam_l2: float) -> Tensor:
        x, y, x_adv, z_g, _ = (value[rows] for value in vars(samples).values())
        loss = F.cross_entropy(model(x), y)
        if lam_adv:
            with batchnorm_in_eval_mode(model):
                loss = loss + lam_adv * adversarial_disagreement(model(x_adv), z_g)
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
        return statistics.median(seconds[1:]), f"{min(seconds[1:]) * 1e3:.4g} - {max(seconds[1:]) * 1e3:.4g}"

    def row(self, name: str, work: Callable[[], Any], **others: Any) -> Row:
        """A row of a table: what was done, the median and the spread in ms."""
        median, spread = self.time(work)
        self.found[name] = median
        return {"what": name, "ms": median * 1e3, "spread": spread, **others}


def same_sums(bench: Bench) -> list[Row]:
    """Whether ``WeightedSum`` gives the bits of the CPU on the device, in several groupings."""
    size = bench.sizes["mnist"]
    rng = torch.Generator().manual_seed(0)
    updates = []
    for client in range(CLIENTS):
        state = copy_state(size.model(torch.device("cpu"), seed=client))
        for value in state.values():
            if value.is_floating_point():  # magnitudes of 2^-8 to 2^8, so that additions do round
                value.mul_(torch.exp2(torch.randint(-8, 9, value.shape, generator=rng).float()))
        updates.append((1000 + 7 * client, state))
    expected = digest(average(updates))
    number = sum(value.numel() for value in updates[0][1].values())
    rows = []
    for grouping in ([[0, 1, 2, 3, 4]], [[4, 2, 0, 3, 1]], [[0, 1], [2, 3, 4]], [[4], [3], [2], [1], [0]]):
        total = WeightedSum()
        for group in grouping:
            part = WeightedSum()
            for client in group:
                count, state = updates[client]
                part.add(count, {name: value.to(bench.device) for name, value in state.items()})
            total.merge(part)
        equal = digest(total.mean()) == expected
        rows.append({"clients by process": str(grouping), "values": number, "equals the CPU": equal})
    return rows


def same_training(bench: Bench) -> list[Row]:
    """Whether the same training gives the same bits twice."""
    rows = []
    for name, size in bench.sizes.items():
        samples = make_samples(size, 0, bench.device)
        for method in ("round", "ours"):
            found = []
            for _ in range(2):
                model = size.model(bench.device)
                loss = objectives(samples, size.model(bench.device))[method]
                steps = list(local_steps(model, size.local_training(2), samples, loss))
                found.append(digest(model.state_dict()))
            rows.append(
                {"size": name, "method": method, "steps": len(steps), "same bits twice": len(set(found)) == 1}
            )
    return rows


def synchronisations(bench: Bench) -> list[Row]:
    """Where a step makes the host wait for the device.

    ``torch.cuda.set_sync_debug_mode("error")`` would stop at the first of the places that ``"warn"`` lists.
    """
    if bench.device.type != "cuda":
        return [{"method": "all", "syncs per step": "skipped: needs CUDA", "where": ""}]
    size, rows = bench.sizes["small"], []
    for method in ("round", "ft", "ours"):
        samples = make_samples(size, 0, bench.device)
        model = size.model(bench.device)
        loss = objectives(samples, size.model(bench.device))[method]
        steps = local_steps(model, size.local_training(10), samples, loss)
        list(islice(steps, 3))
        count = 7
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            list(islice(steps, count))
            torch.cuda.set_sync_debug_mode("default")
        places = Counter(
            f"{Path(w.filename).name}:{w.lineno}"
            for w in caught
            if "called a synchronizing" in str(w.message)
        )
        where = ", ".join(f"{place} ({times / count:.3g})" for place, times in places.items()) or "nowhere"
        rows.append({"method": method, "syncs per step": places.total() / count, "where": where})
    return rows


def step_times(bench: Bench) -> list[Row]:
    """Host time of a step (enqueueing it to an idle device) beside the time that its kernels take."""
    rows = []
    for name, size in bench.sizes.items():
        samples = make_samples(size, 0, bench.device, 8 * size.batch_size)  # full batches only
        global_model = size.model(bench.device)
        for method in ("round", "ft", "ours"):
            for fill in (True, False):
                torch.utils.deterministic.fill_uninitialized_memory = fill
                loss = objectives(samples, global_model)[method]
                model = size.model(bench.device)
                steps = local_steps(model, size.local_training(10**6), samples, loss)
                times = _times_of(bench, steps)
                rows.append({"size": name, "method": method, "fill": fill, **times})
                del model, steps
    torch.utils.deterministic.fill_uninitialized_memory = True
    return rows


def _times_of(bench: Bench, steps: Iterator[Step]) -> Row:
    number = 24 if bench.device.type == "cuda" else 2
    list(islice(steps, 8 if bench.device.type == "cuda" else 1))
    wall, spread = bench.time(lambda: list(islice(steps, number)))
    times: Row = {"wall ms": wall / number * 1e3, "spread of all": spread}
    if bench.device.type != "cuda":
        return times | {
            "host ms": None,
            "events ms": None,
            "kernels ms": None,
            "launches": None,
            "ratio": None,
        }
    host, between = [], []
    for _ in range(2 * number):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        bench.wait()
        begin = time.perf_counter()
        first.record()
        next(steps)
        last.record()
        host.append((time.perf_counter() - begin) * 1e3)
        bench.wait()
        between.append(first.elapsed_time(last))
    kernels, launches = _kernels(bench, steps, number)
    ratio = statistics.median(host) / kernels if launches else math.nan  # without a profiler, nothing is seen
    return times | {
        "host ms": statistics.median(host),
        "events ms": statistics.median(between),
        "kernels ms": kernels,
        "launches": launches,
        "ratio": ratio,
        "graphs pay": ratio > GRAPHS_PAY_ABOVE,
    }


def _kernels(bench: Bench, steps: Iterator[Step], number: int) -> tuple[float, float]:
    """Milliseconds that kernels, copies and fills run per step, without the gaps, and how many there are."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        list(islice(steps, number))
        bench.wait()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    durations = [e["dur"] for e in events if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    return sum(durations) / number / 1e3, len(durations) / number


def copies(bench: Bench) -> list[Row]:
    """Copies of a network's weights."""
    rows, cuda = [], bench.device.type == "cuda"
    for name in ("mnist", "coil20"):
        model = bench.sizes[name].model(bench.device)
        state = copy_state(model)
        size = sum(value.nbytes for value in state.values())
        flat = torch.randn(size // 4)
        there = flat.to(bench.device)
        work: dict[str, Callable[[], Any]] = {
            "host to device, pageable": lambda a=flat, b=there: b.copy_(a),
            "device to host, pageable": lambda a=flat, b=there: a.copy_(b),
            "device to host, new memory": lambda b=there: b.cpu(),
            "clone on the device": lambda b=there: b.clone(),
            "copy_state": lambda m=model: copy_state(m),
            "load_state from the host": lambda m=model, s=state: load_state(m, s),
            "checkpoint, with fsync": lambda s=state: _save(s),
        }
        if cuda:
            pinned = flat.pin_memory()
            work["host to device, pinned"] = lambda a=pinned, b=there: b.copy_(a, non_blocking=True)
            work["device to host, pinned"] = lambda a=pinned, b=there: a.copy_(b, non_blocking=True)
        for what, function in work.items():
            row = bench.row(f"{name}: {what}", function)
            rows.append({**row, "MB": size / 1e6, "GB/s": size / 1e6 / row["ms"]})
    return rows


def _save(state: State) -> None:
    with tempfile.TemporaryFile() as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())


def sums(bench: Bench) -> list[Row]:
    """The exact average of a round's clients."""
    rows, threads = [], torch.get_num_threads()
    for name in ("mnist", "coil20"):
        size = bench.sizes[name]
        updates = [(100, copy_state(size.model(torch.device("cpu"), seed=c))) for c in range(CLIENTS)]
        for number in sorted({1, threads}):
            torch.set_num_threads(number)
            rows.append(bench.row(f"{name}: sum on the CPU, {number} threads", lambda u=updates: average(u)))
        torch.set_num_threads(threads)
        if bench.device.type == "cuda":
            there = [(count, _move(state, bench.device)) for count, state in updates]
            rows.append(bench.row(f"{name}: sum on the device", lambda u=there: average(u)))
    return rows


def _move(state: Mapping[str, Tensor], device: torch.device) -> State:
    return {name: value.to(device, copy=True) for name, value in state.items()}


def round_today(model: nn.Module, size: Size, clients: Sequence[Samples], device: torch.device) -> None:
    """A round as the simulator does it: samples and weights travel for every client, the CPU sums."""
    start, updates = copy_state(model), []
    for index, samples in enumerate(clients):
        load_state(model, start)
        train_client(model, size, samples.to(device), index)
        updates.append((len(samples.y), copy_state(model)))
    load_state(model, average(updates))


def round_on_device(model: nn.Module, size: Size, clients: Sequence[Samples], device: torch.device) -> None:
    """The same round with samples, weights and sum kept on the device."""
    start, total = _move(model.state_dict(), device), WeightedSum()
    for index, samples in enumerate(clients):
        load_state(model, start)
        train_client(model, size, samples, index)
        total.add(len(samples.y), model.state_dict())
    load_state(model, total.mean())


def train_client(model: nn.Module, size: Size, samples: Samples, client: int) -> float:
    """Train one client for a round; its mean loss."""
    loss = objectives(samples, model)["round"]
    steps = local_steps(model, size.local_training(), samples, loss, client=client)
    return float(torch.stack([step.loss for step in steps]).mean())


def rounds(bench: Bench) -> list[Row]:
    """A round today, with everything on the device, its training alone, and FedML's."""
    return [row for name in ("mnist", "coil20") for row in _rounds_of(bench, name)]


def _rounds_of(bench: Bench, name: str) -> Iterator[Row]:
    size, device = bench.sizes[name], bench.device
    here = [make_samples(size, client, torch.device("cpu")) for client in range(CLIENTS)]
    there = [samples.to(device) for samples in here]
    model = size.model(device)
    first, states = copy_state(model), []
    kinds = ("round today", round_today, here), ("round on the device", round_on_device, there)
    for what, function, clients in kinds:
        load_state(model, first)
        function(model, size, clients, device)
        states.append(digest(model.state_dict()))
        row = bench.row(f"{name}: {what}", partial(function, model, size, clients, device))
        yield {**row, "same bits": states[-1] == states[0]}
    yield bench.row(
        f"{name}: training alone",
        lambda: [train_client(model, size, samples, client) for client, samples in enumerate(there)],
    )
    yield _fedml_round(bench, name, here)


def _fedml_round(bench: Bench, name: str, clients: Sequence[Samples]) -> Row:
    what = f"{name}: round of FedML's simulator"
    if importlib.util.find_spec("fedml") is None:
        return {"what": what, "ms": None, "spread": "skipped: FedML is not installed"}
    # Takes seconds to import, and is absent where only torch is.
    from fedml.simulation.sp.fedavg.fedavg_api import FedAvgAPI

    size = bench.sizes[name]
    args = SimpleNamespace(
        client_num_per_round=CLIENTS,
        epochs=size.epochs,
        client_optimizer="adam",
        learning_rate=1e-4,
        weight_decay=0.0,
        dataset="random",
        federated_optimizer="FedAvg",
        enable_wandb=False,
    )
    batches = {
        client: list(zip(samples.x.split(size.batch_size), samples.y.split(size.batch_size), strict=True))
        for client, samples in enumerate(clients)
    }
    counts = {client: len(samples.y) for client, samples in enumerate(clients)}
    dataset = [sum(counts.values()), 0, None, None, counts, batches, batches, size.num_classes]
    simulator = FedAvgAPI(args, bench.device, dataset, size.model(torch.device("cpu")))

    def train() -> None:
        # The loop of FedAvgAPI.train() without its reports to FedML's platform and its measurements.
        start, updates = simulator.model_trainer.get_model_params(), []
        for client in simulator.client_list:
            update = client.train(copy.deepcopy(start))
            updates.append((client.get_sample_number(), copy.deepcopy(update)))
        simulator.model_trainer.set_model_params(simulator._aggregate(updates))

    return bench.row(what, train)


def personalization(bench: Bench) -> list[Row]:
    """Preparing one client, and personalizing and measuring it by four methods."""
    rows = []
    for name in ("mnist", "coil20"):
        size = bench.sizes[name]
        train, val, test = (make_samples(size, i, bench.device, n) for i, n in enumerate(size.samples))
        model = size.model(bench.device)

        def prepare(train: Samples = train, model: nn.Module = model, others: Any = (val, test)) -> None:
            x_adv = ATTACK(model, train.x, train.y)
            with frozen(model), torch.no_grad():
                model(x_adv).softmax(dim=1)
            for samples in others:
                evaluate(model, ATTACK(model, samples.x, samples.y), samples.y)

        def count_fooled(train: Samples = train, model: nn.Module = model) -> None:
            evaluate(model, train.x, train.y)
            evaluate(model, ATTACK(model, train.x, train.y), train.y)

        def measure(model: nn.Module = model, test: Samples = test) -> None:
            for _ in range(2):
                evaluate(model, test.x, test.y)

        rows.append(bench.row(f"{name}: prepare a client", prepare))
        rows.append(bench.row(f"{name}: budget, one client", count_fooled))
        rows.append(bench.row(f"{name}: measure a client", measure))
        for method in ("ft", "adv", "l2", "ours"):
            rows.append(
                bench.row(
                    f"{name}: {method}",
                    lambda method=method, parts=(model, size, train, val, test): personalize(*parts, method),
                )
            )
    return rows


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
            evaluate(model, val.x_adv, val.y)
            if score > best_score:
                best_score = score
                state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    best = copy.deepcopy(global_model)
    load_state(best, state)
    for images in (test.x, test.x, test.x_adv):
        evaluate(best, images, test.y)


def processes(bench: Bench) -> list[Row]:
    """A round's training, shared by 1 to 5 processes that use the same GPU."""
    context = multiprocessing.get_context("spawn")
    number = CLIENTS if bench.device.type == "cuda" else 2
    begin, end = context.Barrier(number + 1), context.Barrier(number + 1)
    names, patience = ("mnist", "coil20"), 120.0
    trials = [(name, n) for name in names for n in range(1, number + 1)]
    repeats = bench.repeats + 1  # one to warm up
    plan = [(bench.sizes[name], n) for name, n in trials for _ in range(repeats)]
    arguments = (number, str(bench.device), plan, begin, end, patience)
    children = [
        context.Process(target=_share, args=(rank, *arguments), daemon=True) for rank in range(number)
    ]
    rows = []
    try:
        for child in children:
            child.start()
        for name, n in trials:
            seconds = []
            for _ in range(repeats):
                begin.wait(patience)
                started = time.perf_counter()
                end.wait(patience)
                seconds.append(time.perf_counter() - started)
            median = statistics.median(seconds[1:])
            bench.found[f"{name}: {n} processes"] = median
            spread = f"{min(seconds[1:]) * 1e3:.4g} - {max(seconds[1:]) * 1e3:.4g}"
            gain = bench.found[f"{name}: 1 processes"] / median
            rows.append({"size": name, "processes": n, "ms": median * 1e3, "spread": spread, "gain": gain})
    finally:
        for child in children:
            child.join(5)
            child.terminate()
    return rows


def _share(
    rank: int,
    number: int,
    device: str,
    plan: Sequence[tuple[Size, int]],
    begin: Any,
    end: Any,
    patience: float,
) -> None:
    """A process: trains its clients of every round of the plan and adds up their weights on the CPU."""
    where = prepare_device(device)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // number))
    held: tuple[Size, nn.Module, State, list[Samples]] | None = None
    for size, sharing in plan:
        if held is None or held[0] != size:
            model = size.model(where)
            held = size, model, copy_state(model), [make_samples(size, c, where) for c in range(CLIENTS)]
        _, model, start, clients = held
        begin.wait(patience)
        total = WeightedSum()
        for client in range(rank, CLIENTS, sharing) if rank < sharing else ():
            load_state(model, start)
            train_client(model, size, clients[client], client)
            total.add(len(clients[client].y), copy_state(model))
        end.wait(patience)


def extrapolation(bench: Bench) -> list[Row]:
    """Seconds of ``fedml_configs/mnist.yaml`` with one seed, from what was measured at MNIST size."""
    found = {name.removeprefix("mnist: "): s for name, s in bench.found.items() if name.startswith("mnist: ")}
    needed = ("round today", "round on the device", "checkpoint, with fsync", "measure a client", "ours")
    missing = [name for name in needed if name not in found]
    if missing:
        return [{"what": f"skipped: {', '.join(missing)} not measured", "times": None, "each ms": None}]
    # JTT: one epoch, then five of 1,008 samples with the 2 % that break the correlation 50 times in each.
    errors = round(0.02 * 1008)
    jtt = found["ft"] * (1 + 5 * (1008 + 49 * errors) / 1008) / 5
    every = [
        ("measuring the global model: 21 rounds x 50 clients", 21 * 50, found["measure a client"]),
        ("budget: one try x 50 clients", 50, found["budget, one client"]),
        (
            "preparing clients: 2 passes (trials, then the second grid of ours) x 50",
            100,
            found["prepare a client"],
        ),
        ("ft, uw: 2 x 50", 100, found["ft"]),
        (f"jtt: 50, with {errors} errors x 50 in the second stage", 50, jtt),
        ("adv: 4 values x 50", 200, found["adv"]),
        ("ditto, l2: (2 + 4) values x 50", 300, found["l2"]),
        ("ours: (4 + 4 - 1) values x 50", 350, found["ours"]),
    ]
    rows = []
    for kind, extra in (("today", True), ("on the device", False)):
        parts = [(f"500 rounds {kind}", 500, found[f"round {kind}"])]
        if extra:
            parts.append(("500 checkpoints with fsync", 500, found["checkpoint, with fsync"]))
        rows += [_part(*part) for part in parts]
        total = sum(n * each for _, n, each in [*parts, *every])
        rows.append({"what": f"TOTAL {kind}, with the parts below", "times": 1, "each ms": None, "s": total})
    return [*rows, *(_part(*part) for part in every)]


def _part(what: str, times: int, each: float) -> Row:
    return {"what": what, "times": times, "each ms": each * 1e3, "s": times * each}


ITEMS: dict[str, Callable[[Bench], list[Row]]] = {
    "1 exact sums: the same bits on CPU and device": same_sums,
    "2 training: the same bits twice": same_training,
    "3 synchronisations within a step": synchronisations,
    "4 host and device time of a step": step_times,
    "5a copies": copies,
    "5b exact average of 5 clients": sums,
    "6a a round of 5 clients": rounds,
    "6b personalizing one client": personalization,
    "7 processes that share a round": processes,
    "8 mnist.yaml, one seed": extrapolation,
}


def prepare_device(name: str) -> torch.device:
    """The device with the determinism of a run; see ``fedml_spurious.experiment.device``."""
    device = torch.device(name)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first use of cuBLAS
        torch.use_deterministic_algorithms(True)
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    return device


def machine(device: torch.device) -> Row:
    """What the figures are of."""
    package = Path(fedml_spurious.__file__).parent
    sources = sorted((package / "learning").glob("*.py"))
    facts: Row = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "learning": hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest(),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cudnn"] = torch.backends.cudnn.version()
        facts["tf32"] = {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "cudnn": torch.backends.cudnn.allow_tf32,
        }
        facts["nvidia-smi"] = _nvidia_smi()
    return facts


def _nvidia_smi() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "not found"
    fields = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu,memory.used"
    command = [program, f"--query-gpu={fields}", "--format=csv"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in [names, *cells]) for i in range(len(names))]
    click.echo(f"\n{title}")
    for line in [names, *cells]:
        click.echo(
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def chosen_device(name: str | None) -> str:
    """The device that is asked for, else a GPU where there is one."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise click.BadParameter("torch finds no CUDA GPU on this machine; leave --device out or give cpu")
    return name or ("cuda" if available else "cpu")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for gpu.json.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), help="Default: a GPU where there is one.")
@click.option("--quick", is_flag=True, help="A small size, in seconds; always so on the CPU.")
@click.option("--limit", default=480.0, show_default=True, help="Seconds after which nothing more is timed.")
def main(out: Path, device: str | None, quick: bool, limit: float) -> None:
    """Check and time training on one GPU."""
    where = prepare_device(chosen_device(device))
    quick = quick or where.type == "cpu"
    if where.type == "cpu":
        torch.set_num_threads(1)  # small networks lose by more, and busy machines by far
    if quick:
        click.echo("small sizes: what follows shows that the checks run, not how fast a GPU is")
    bench = Bench(where, QUICK if quick else FULL, repeats=1 if quick else 5, found={})
    out.mkdir(parents=True, exist_ok=True)
    found: Row = {"machine": machine(where), "quick": quick, "device": str(where), "items": {}}
    show("machine", [{"fact": name, "value": value} for name, value in found["machine"].items()])
    begin = time.perf_counter()
    for title, item in ITEMS.items():
        started = time.perf_counter()
        if started - begin > limit and item is not extrapolation:
            rows: list[Row] = [{"skipped": f"the limit of {limit:g} s was reached"}]
        else:
            try:
                rows = item(bench)
            except RuntimeError as error:  # what torch raises for all that a device refuses
                rows = [{"failed": f"{type(error).__name__}: {error}"}]
        took = time.perf_counter() - started
        show(f"{title} ({took:.0f} s)", rows)
        found["items"][title] = {"seconds": took, "rows": rows}
        (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    show("machine afterwards", [{"nvidia-smi": _nvidia_smi()}])
    click.echo(f"\n{time.perf_counter() - begin:.0f} s in all; written to {out / 'gpu.json'}")


if __name__ == "__main__":
    main()
