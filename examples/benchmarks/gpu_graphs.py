"""Whether a training step could be replayed as a CUDA graph: the same bits, and how much faster."""

from __future__ import annotations

import copy
import statistics
import time

import torch
from gpu_work import Bench, Loss, Row, Samples, Size, local_steps, make_samples, objectives, same_bits
from torch import Tensor, nn

from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.learning.state_dicts import clone_state, load_state
from fedml_spurious.learning.training import minibatches

WARM_UP = 3  # steps before the recording, which make what lives as long as the training


def replayed_steps(bench: Bench) -> list[Row]:
    """A client's training in the package's loop and with its full batches replayed from a recording."""
    if bench.device.type != "cuda":
        return [{"method": "all", "same bits": None, "loop ms": None, "replayed ms": "skipped: needs CUDA"}]
    rows = []
    for name in ("mnist", "coil20"):
        size = bench.sizes[name]
        samples, model = make_samples(size, 0, bench.device), size.model(bench.device)
        start, global_model = clone_state(model), copy.deepcopy(model)
        for method in ("round", "ours"):
            loss, states, equal = objectives(samples, global_model)[method], [], []
            seconds: dict[str, list[float]] = {"loop": [], "replayed": []}
            for _ in range(bench.repeats + 1):
                for kind, train in (("loop", _loop), ("replayed", _replayed)):
                    load_state(model, start)
                    bench.wait()
                    begin = time.perf_counter()
                    train(model, size, samples, loss)
                    bench.wait()
                    seconds[kind].append(time.perf_counter() - begin)
                    states = states or [clone_state(model)]
                    equal.append(same_bits(states[0], clone_state(model)))
            loop, replayed = (statistics.median(seconds[kind][1:]) for kind in ("loop", "replayed"))
            row = {"loop ms": loop * 1e3, "replayed ms": replayed * 1e3, "gain": loop / replayed}
            rows.append({"size": name, "method": method, "same bits": all(equal), **row})
    return rows


def _loop(model: nn.Module, size: Size, samples: Samples, loss: Loss) -> None:
    for _ in local_steps(model, size.local_training(), samples, loss):
        pass


def _replayed(model: nn.Module, size: Size, samples: Samples, loss: Loss) -> None:
    """The same steps; other batches than full ones, and the first, are not replayed."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True, capturable=True)
    device, count = samples.y.device, len(samples.y)
    batches: list[Tensor] = []
    for epoch in range(size.epochs):
        order = generator(0, Purpose.LOCAL_BATCHES, 0, 0, epoch).permutation(count)
        batches += minibatches(torch.from_numpy(order).to(device), size.batch_size)
    rows = torch.zeros(size.batch_size, dtype=torch.int64, device=device)

    def step(rows: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(model, rows).backward()
        optimizer.step()

    side = torch.cuda.Stream()
    graph: torch.cuda.CUDAGraph | None = None
    for number, batch in enumerate(batches):
        if graph is None and number >= WARM_UP and len(batch) == len(rows):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step(rows)
        if graph is not None and len(batch) == len(rows):
            rows.copy_(batch)
            graph.replay()
            continue
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step(batch)
        torch.cuda.current_stream().wait_stream(side)
