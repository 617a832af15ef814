"""The plan of a federation in which every client paints its classes in its own colours.

Index arithmetic on labels; no image is touched. :mod:`data_partition.colored.federation` reads the images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from data_partition.colored.coloring import draw_client_map, draw_derangement, draw_shared_map
from data_partition.colored.options import ColoredOptions
from data_partition.dealing import deal_classes, divide_class, divide_into_splits, draw_limited, round_half_up
from data_partition.split_files.federation import PlannedClient, PlannedSamples
from data_partition.split_files.meta import SPLITS, TRAINING_SPLITS
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.common.words import counted

# First element of an address: addresses of different length would otherwise coincide where they end in 0.
_LIMITED, _DIVIDED = 1, 2
_SHARED, _OWN = 1, 2

# Multiples of the golden ratio lie evenly in [0, 1) however many there are: over clients what is rounded up
# and down adds up to the proportion.
_GOLDEN = (math.sqrt(5) - 1) / 2


def plan_shared_map(options: ColoredOptions, num_classes: int) -> IndexArray | None:
    """The colour map that the clients' maps diverge from, shape (K,); None if there is none.

    Raises:
        InputError: one is asked for and there are fewer colours than classes.
    """
    num_colors = len(options.color_names)
    if options.map_divergence < 1 and num_colors < num_classes:
        raise InputError(
            f"map_divergence {options.map_divergence} needs a colour map for "
            f"{counted(num_classes, 'class')}, and only {counted(num_colors, 'colour')}; set colors to "
            f"{num_classes}"
        )
    return draw_shared_map(
        num_classes, num_colors, generator(options.seed, Purpose.PARTITION_COLORS, _SHARED)
    )


def plan_clients(
    label: IndexArray, num_classes: int, shared: IndexArray | None, options: ColoredOptions
) -> list[PlannedClient]:
    """Decide which client gets which sample, in which split and colour.

    Args:
        label: classes of the raw samples, shape (N,).
        num_classes: K.
        shared: the colour map of :func:`plan_shared_map`, shape (K,).
        options: of the federation.

    Returns:
        One plan per client, its classes ascending; no row is in two clients or in two of train, val and test.

    Raises:
        InputError: the options ask for more than the samples give.
    """
    rows = np.arange(len(label))
    if options.limit is not None:
        rows = draw_limited(
            label, options.limit, generator(options.seed, Purpose.PARTITION_SAMPLES, _LIMITED)
        )
    hands = deal_classes(
        num_classes,
        options.clients,
        options.classes_per_client,
        generator(options.seed, Purpose.PARTITION_CLASSES),
    )
    if options.limit is not None:
        _require_enough(options.limit, label, rows, hands)
    held: list[dict[int, IndexArray]] = [{} for _ in hands]
    for y in range(num_classes):
        holders = [client for client, hand in enumerate(hands) if y in hand]
        if holders:
            rng = generator(options.seed, Purpose.PARTITION_SAMPLES, _DIVIDED, y)
            for client, part in divide_class(rows[label[rows] == y], holders, rng).items():
                held[client][y] = part
    return [_plan_client(client, own, shared, label, options) for client, own in enumerate(held)]


def _require_enough(limit: int, label: IndexArray, rows: IndexArray, hands: Sequence[IndexArray]) -> None:
    """Make sure that the limit leaves a sample of each of its classes to every client."""
    holders = np.bincount(np.concatenate(hands), minlength=int(label.max()) + 1)
    there = np.bincount(label, minlength=len(holders))
    left = np.bincount(label[rows], minlength=len(holders))
    if (left >= holders).all() or (there < holders).any():  # the latter is no matter of the limit
        return
    worst = int((left - holders).argmin())
    # Of a class at least its proportional part is kept, rounded down.
    enough = int((-(-holders * len(label) // np.maximum(there, 1))).max())
    who, what = counted(int(holders[worst]), "client"), counted(int(left[worst]), "sample")
    raise InputError(
        f"limit {limit} is too small: {who} would share a class of {what}, and each needs one; give "
        f"{advice.option('limit', str(enough))} or more, or ask for fewer clients or fewer classes per client"
    )


def _plan_client(
    client: int,
    held: dict[int, IndexArray],
    shared: IndexArray | None,
    label: IndexArray,
    options: ColoredOptions,
) -> PlannedClient:
    classes = np.array(sorted(held))
    rng = generator(options.seed, Purpose.PARTITION_COLORS, _OWN, client)
    color_map = draw_client_map(
        classes,
        shared,
        num_colors=len(options.color_names),
        divergence=options.map_divergence,
        rng=rng,
    )
    others = classes[draw_derangement(len(classes), rng)]
    conflict_map = {int(y): color_map[int(other)] for y, other in zip(classes, others, strict=True)}
    conflict_rng = generator(options.seed, Purpose.PARTITION_CONFLICTS, client)
    noise_rng = generator(options.seed, Purpose.PARTITION_LABEL_NOISE, client)
    parts = [held[y] for y in sorted(held)]  # in random order already
    split_rng = generator(options.seed, Purpose.PARTITION_SPLITS, client)
    cut = dict(zip(SPLITS, divide_into_splits(parts, options.ratios, split_rng), strict=False))
    given = {split: label[rows] for split, rows in cut.items()}
    for split in TRAINING_SPLITS:
        given[split] = _replace_share(given[split], classes, options.label_noise, noise_rng)
    training = {split: given[split] for split in TRAINING_SPLITS}
    start = (client + 1) * _GOLDEN % 1
    shown = given | _spread_conflicts(
        training, classes, options.bias_conflicting_fraction, start=start, rng=conflict_rng
    )
    splits = {
        split: PlannedSamples(rows, given[split], _look_up(color_map, shown[split]))
        for split, rows in cut.items()
    }
    test = splits["test"]
    splits["test_bc"] = PlannedSamples(test.rows, test.label, _look_up(conflict_map, test.label))
    return PlannedClient(tuple(classes.tolist()), splits, color_map, conflict_map)


def _replace_share(
    values: IndexArray, classes: IndexArray, share: float, rng: np.random.Generator
) -> IndexArray:
    """Replace an exact share of each class by other classes of the client, drawn uniformly."""
    replaced = values.copy()
    for y in classes:
        members = np.flatnonzero(values == y)
        chosen = rng.permutation(members)[: round_half_up(len(members), share)]
        replaced[chosen] = rng.choice(classes[classes != y], size=len(chosen))
    return replaced


def _spread_conflicts(
    given: Mapping[str, IndexArray],
    classes: IndexArray,
    share: float,
    *,
    start: float,
    rng: np.random.Generator,
) -> dict[str, IndexArray]:
    """Replace an exact share of a client's labels by other classes of it, spread over its splits and classes.

    The samples are laid in a row by split and class, and every ``1 / share``-th is taken. So each split, and
    each class in it, has its proportional part of them rounded up or down. Rounding for each split by itself
    would leave small ones with none on every client.

    Args:
        given: labels of each split.
        classes: the client's classes.
        share: of all the client's samples; their number is rounded half up.
        start: where in the first interval to begin, in [0, 1): whose parts are rounded up.
        rng: draws the samples of a class, the order of the classes, and the new classes.

    Returns:
        The labels of each split with those replaced.
    """
    labels = np.concatenate(list(given.values()))
    sizes = [len(part) for part in given.values()]
    place = {int(y): index for index, y in enumerate(rng.permutation(classes))}
    row = np.lexsort(
        (rng.random(len(labels)), _look_up(place, labels), np.repeat(np.arange(len(sizes)), sizes))
    )
    count = round_half_up(len(labels), share)
    taken = row[((np.arange(count) + start) * len(labels) // max(count, 1)).astype(np.int64)]
    replaced = labels.copy()
    for y in classes:
        chosen = taken[labels[taken] == y]
        replaced[chosen] = rng.choice(classes[classes != y], size=len(chosen))
    return dict(zip(given, np.split(replaced, np.cumsum(sizes)[:-1]), strict=True))


def _look_up(mapping: dict[int, int], keys: IndexArray) -> IndexArray:
    return np.array([mapping[key] for key in keys.tolist()], dtype=np.int64)
