"""What the GPU benchmark checks: a function per item, whose answer is the rows of a table."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from itertools import islice
from pathlib import Path

import torch
from gpu_work import (
    CLIENTS,
    Bench,
    Row,
    digest,
    local_steps,
    make_samples,
    objectives,
    same_bits,
)

from fedml_spurious.learning.state_dicts import clone_state, copy_state, load_state
from fedml_spurious.learning.weighted_sum import WeightedSum, average


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


def same_means(bench: Bench) -> list[Row]:
    """Whether means that lie half-way between two numbers are rounded as on the CPU.

    Clients with equally many samples have such means wherever their weights lie on both sides of a power of
    two. There a division that is off by its last bit goes to the wrong side; "by the reciprocal" is what it
    gives that torch's division by a plain number does on a GPU (multiply by the rounded 1 / count).
    """
    rows = []
    for number in (1008, 21, 7):
        rng = torch.Generator().manual_seed(number)
        base = (torch.rand(2**20, generator=rng) - 0.5) / 64
        total, there = WeightedSum(), WeightedSum()
        for _ in range(CLIENTS):
            state = {"w": base + 1.5e-3 * torch.randn(base.shape, generator=rng)}
            total.add(number, state)
            there.add(number, {"w": state["w"].to(bench.device)})
        expected, actual = total.mean()["w"], there.mean()["w"].cpu()
        exact = total.head["w"] + total.tail["w"]
        inverse = (exact * (1.0 / total.count)).to(expected.dtype)
        plain = (exact.to(bench.device) / total.count).to(expected.dtype).cpu()
        rows.append(
            {
                "samples of 5 clients each": number,
                "values": base.numel(),
                "equals the CPU": torch.equal(actual, expected),
                "others by a plain number": int((plain != expected).sum()),
                "others by the reciprocal": int((inverse != expected).sum()),
            }
        )
    return rows


def same_training(bench: Bench) -> list[Row]:
    """Whether the same training gives the same bits twice."""
    rows = []
    for name, size in bench.sizes.items():
        samples, model = make_samples(size, 0, bench.device), size.model(bench.device)
        start, global_model = clone_state(model), copy.deepcopy(model)
        for method in ("round", "ours"):
            found = []
            for _ in range(2):
                load_state(model, start)
                loss = objectives(samples, global_model)[method]
                steps = list(local_steps(model, size.local_training(2), samples, loss))
                found.append(clone_state(model))
            equal = same_bits(*found)
            rows.append({"size": name, "method": method, "steps": len(steps), "same bits twice": equal})
    return rows


def synchronisations(bench: Bench) -> list[Row]:
    """Where a step makes the host wait for the device.

    ``torch.cuda.set_sync_debug_mode("error")`` would stop at the first of the places that ``"warn"`` lists.
    """
    if bench.device.type != "cuda":
        return [{"method": "all", "syncs per step": "skipped: needs CUDA", "where": ""}]
    size, rows = bench.sizes["small"], []
    for method in ("round", "ft", "ours"):
        count = 7
        samples = make_samples(size, 0, bench.device, 2 * count * size.batch_size)
        model = size.model(bench.device)
        loss = objectives(samples, size.model(bench.device))[method]
        steps = local_steps(model, size.local_training(10), samples, loss)
        list(islice(steps, 3))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                list(islice(steps, count))  # within an epoch; at its end its losses are looked at
            finally:
                torch.cuda.set_sync_debug_mode("default")
        places = Counter(
            f"{Path(w.filename).name}:{w.lineno}"
            for w in caught
            if "called a synchronizing" in str(w.message)
        )
        where = ", ".join(f"{place} ({times / count:.3g})" for place, times in places.items()) or "nowhere"
        rows.append({"method": method, "syncs per step": places.total() / count, "where": where})
    return rows
