"""What the GPU benchmark times: a function per item, whose answer is the rows of a table."""

from __future__ import annotations

import copy
import importlib.util
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from gpu_work import (
    CLIENTS,
    Bench,
    Row,
    Samples,
    Size,
    local_steps,
    make_samples,
    middle,
    move,
    objectives,
    personalize,
    prepare_device,
    round_on_device,
    round_over_host,
    same_bits,
    train_client,
)
from torch import nn

from fedml_spurious.learning.attacks import Attack
from fedml_spurious.learning.metrics import evaluate
from fedml_spurious.learning.modes import frozen
from fedml_spurious.learning.state_dicts import State, clone_state, copy_state, load_state
from fedml_spurious.learning.training import Step
from fedml_spurious.learning.weighted_sum import WeightedSum, average

GRAPHS_PAY_ABOVE = 1.3  # host over device time of a step
ATTACK = Attack("linf", 0.031)


def step_times(bench: Bench) -> list[Row]:
    """Host time of a step (enqueueing it to an idle device) beside the time that its kernels take."""
    rows = []
    for name, size in bench.sizes.items():
        samples = make_samples(size, 0, bench.device, 8 * size.batch_size)  # full batches only
        global_model = size.model(bench.device)
        for method in ("round", "ft", "ours"):
            loss = objectives(samples, global_model)[method]
            model = size.model(bench.device)
            steps = local_steps(model, size.local_training(10**6), samples, loss)
            rows.append({"size": name, "method": method, **_times_of(bench, steps)})
            del model, steps
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
    ratio = statistics.median(host) / kernels if launches else None  # without a profiler, nothing is seen
    return times | {
        "host ms": statistics.median(host),
        "events ms": statistics.median(between),
        "kernels ms": kernels,
        "launches": launches,
        "ratio": ratio,
        "graphs pay": ratio is not None and ratio > GRAPHS_PAY_ABOVE,
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
        torch.set_num_threads(1)
        rows.append(bench.row(f"{name}: sum on the CPU, 1 thread", lambda u=updates: average(u)))
        torch.set_num_threads(threads)
        if bench.device.type == "cuda":
            there = [(count, move(state, bench.device)) for count, state in updates]
            rows.append(bench.row(f"{name}: sum on the device", lambda u=there: average(u)))
    return rows


def rounds(bench: Bench) -> list[Row]:
    """A round as it is, one with everything over the host, the training alone, and FedML's."""
    return [row for name in ("mnist", "coil20") for row in _rounds_of(bench, name)]


def _rounds_of(bench: Bench, name: str) -> Iterator[Row]:
    size, device = bench.sizes[name], bench.device
    here = [make_samples(size, client, torch.device("cpu")) for client in range(CLIENTS)]
    there = [samples.to(device) for samples in here]
    model = size.model(device)
    first, states = copy_state(model), []
    kinds = ("round over the host", round_over_host, here), ("round", round_on_device, there)
    for what, function, clients in kinds:
        for _ in range(2):
            load_state(model, first)
            function(model, size, clients, device)
            states.append(clone_state(model))
        row = bench.row(f"{name}: {what}", partial(function, model, size, clients, device))
        twice, alike = same_bits(states[-2], states[-1]), same_bits(states[0], states[-1])
        yield {**row, "same bits twice": twice, "same bits": alike}
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


def processes(bench: Bench) -> list[Row]:
    """A round's training, shared by 1 to 5 processes that use the same GPU."""
    context = multiprocessing.get_context("spawn")
    number = CLIENTS if bench.device.type == "cuda" else 2
    begin, end = context.Barrier(number + 1), context.Barrier(number + 1)
    names, patience = ("mnist", "coil20"), 60.0
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
            median, spread = middle(seconds[1:])
            bench.found[f"{name}: {n} processes"] = median
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
    """A process: trains its clients of every round of the plan and adds up their weights."""
    where = prepare_device(device)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // number))
    held: tuple[Size, nn.Module, State, list[Samples]] | None = None
    for size, sharing in plan:
        if held is None or held[0] != size:
            model = size.model(where)
            held = size, model, clone_state(model), [make_samples(size, c, where) for c in range(CLIENTS)]
        _, model, start, clients = held
        begin.wait(patience)
        total = WeightedSum()
        for client in range(rank, CLIENTS, sharing) if rank < sharing else ():
            load_state(model, start)
            train_client(model, size, clients[client], client)
            total.add(len(clients[client].y), clone_state(model))
        for value in total.head.values():
            value.cpu()  # on its way to the server
        end.wait(patience)
