"""Other clients test a personal model on their images: the model goes out, counts come back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_partition.split_files.meta import SplitMeta
from fedml_spurious.analysis.reliance import Estimate, predict
from fedml_spurious.audit.verdicts import PeerEstimate
from fedml_spurious.common.seeds import Purpose, generator
from fedml_spurious.common.travelling import travels
from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.modes import Classifier

MOST_PEERS = 10
"""More learn the model and tell little more."""
SEED = 0
"""Of everything that an audit draws."""


@travels
@dataclass(frozen=True)
class PeerCounts:
    """What a peer tells: four counts, over its images of classes that the client holds.

    Attributes:
        images: number of images.
        gained: those that the personal model alone classifies correctly.
        lost: those that the global model alone does.
    """

    images: int
    gained: int
    lost: int


def choose_peers(meta: SplitMeta, client: str, *, seed: int = SEED) -> tuple[str, ...]:
    """Clients that hold some of a client's classes, drawn, at most ``MOST_PEERS``, by their ids."""
    own = set(meta.clients[client].classes)
    ids = sorted(meta.clients)
    having = [other for other in ids if other != client and own & set(meta.clients[other].classes)]
    drawn = generator(seed, Purpose.AUDIT_PEERS, ids.index(client)).permutation(len(having))[:MOST_PEERS]
    return tuple(having[place] for place in sorted(drawn))


def count_at_peer(
    global_model: Classifier,
    personal_models: Iterable[Classifier],
    images: Labelled,
    classes: Iterable[int],
) -> tuple[PeerCounts, ...]:
    """What a peer counts on its own images, for every personal model.

    Args:
        global_model: takes (B, C, H, W) and returns logits (B, K).
        personal_models: of the client that asks; each is used before the next is taken.
        images: of the peer.
        classes: those of the client that asks.
    """
    shared = torch.isin(images.y, torch.tensor(sorted(classes), device=images.y.device))
    x, y = images.x[shared], images.y[shared]
    if not len(y):
        return tuple(PeerCounts(0, 0, 0) for _ in personal_models)
    right = _right(global_model, x, y)
    return tuple(_compare(right, _right(model, x, y)) for model in personal_models)


def _compare(right_g: Tensor, right_p: Tensor) -> PeerCounts:
    return PeerCounts(len(right_g), int((right_p & ~right_g).sum()), int((right_g & ~right_p).sum()))


def _right(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    return predict(model, x) == y


def estimate_by_peers(change: Estimate, answers: Sequence[PeerCounts]) -> PeerEstimate:
    """The rise of the disparity: what personalizing changes on the client's images, minus that on peers'.

    On its own images the client's bias helps the personal model, on the peers' images another one holds. The
    interval joins those of the two changes (Zou and Donner 2008, MOVER).

    Args:
        change: personal minus global accuracy on the client's own images.
        answers: of the peers.
    """
    images = sum(answer.images for answer in answers)
    asked = sum(answer.images > 0 for answer in answers)
    if not images:
        return PeerEstimate(asked, 0, None)
    gained, lost = (sum(getattr(answer, name) for answer in answers) for name in ("gained", "lost"))
    values = np.concatenate([np.ones(gained), -np.ones(lost), np.zeros(images - gained - lost)])
    there = Estimate.of(values)
    value = change.value - there.value
    return PeerEstimate(
        asked,
        images,
        Estimate(
            value,
            value - math.hypot(change.value - change.low, there.high - there.value),
            value + math.hypot(change.high - change.value, there.value - there.low),
        ),
    )
