"""The audit of one client: its own images, what a probe makes of them, and what both models answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.analysis.probes import Probe, choose_donors, find_probe, transfer_all
from fedml_spurious.analysis.reliance import Reliance, answer, compare_answers
from fedml_spurious.audit.peers import SEED, PeerCounts, estimate_by_peers
from fedml_spurious.audit.verdicts import PeerEstimate, Verdict, judge
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.travelling import travels
from fedml_spurious.learning.attacks import ATTACK_BATCH
from fedml_spurious.learning.client_data import Labelled, SampleCache, load_split
from fedml_spurious.learning.modes import Classifier, frozen

EXAMPLES = 12
"""Images that the user is told to look at."""


@dataclass(frozen=True)
class AuditOptions:
    """What is asked of an audit.

    Attributes:
        probe_name: what the user called the probe; empty without one.
        probe: the probe; None without one.
        peers: whether personal models go to other clients.
        tolerance: rise of the disparity that counts as none, in [0, 1].
        truth: whether the disparities on the bias-conflicting test set are shown beside the estimates.
    """

    probe_name: str = ""
    probe: Probe | None = None
    peers: bool = False
    tolerance: float = 0.05
    truth: bool = False


def make_options(probe: str | None, *, peers: bool, tolerance: float, truth: bool) -> AuditOptions:
    """Check what is asked.

    Raises:
        InputError: there is no such probe, or the tolerance is none.
    """
    if not 0 <= tolerance <= 1:  # NaN too is no tolerance
        raise InputError(f"--tolerance: is {tolerance:g}, expected a difference of accuracies from 0 to 1")
    return AuditOptions(probe or "", find_probe(probe) if probe else None, peers, tolerance, truth)


@travels
@dataclass(frozen=True)
class Example:
    """An image, its donor, and what the probe made of them; shape (C, H, W), values in [0, 1]."""

    image: Tensor
    donor: Tensor
    probed: Tensor


@dataclass(frozen=True)
class ClientImages:
    """The images that an audit of a client uses.

    Attributes:
        images: validation and biased test images, N of them.
        biased: the biased test images alone.
        donors: rows of the donors, shape (N, D); None where there are none.
        probed: what the probe made of the images, shape (N, D, C, H, W); None without a probe or donors.
    """

    images: Labelled
    biased: Labelled
    donors: Tensor | None
    probed: Tensor | None

    def examples(self, count: int = EXAMPLES) -> list[Example]:
        """So many images beside what the probe made of them, spread over the client's images."""
        if self.donors is None or self.probed is None:
            return []
        x, shown = self.images.x, min(len(self.images), count)
        rows = [place * len(x) // shown for place in range(shown)]
        return [Example(x[row], x[self.donors[row, 0]], self.probed[row, 0]) for row in rows]


def load_images(
    data: SplitFolder,
    client: str,
    options: AuditOptions,
    device: torch.device,
    cache: SampleCache | None = None,
) -> ClientImages:
    """The client's validation and biased test images, and what the probe makes of them.

    Raises:
        InputError: it has none, or the probe gives no image.
    """
    images, biased = own_images(data, client, device, cache)
    if not len(images):
        raise InputError(f"{data.folder}: client {client} has neither validation nor biased test images")
    if options.probe is None or len(torch.unique(images.y)) < 2:
        return ClientImages(images, biased, None, None)
    place = data.index(client)
    donors = choose_donors(images.y, seed=SEED, client=place)
    probed = transfer_all(options.probe_name, options.probe, images.x, donors, seed=SEED, client=place)
    return ClientImages(images, biased, donors, probed)


def own_images(
    data: SplitFolder, client: str, device: torch.device, cache: SampleCache | None = None
) -> tuple[Labelled, Labelled]:
    """All images that the audit may use of a client, and the biased test images among them."""
    with data.sealed():
        val, biased = (load_split(data, client, split, device, cache).labelled() for split in ("val", "test"))
    return Labelled(torch.cat([val.x, biased.x]), torch.cat([val.y, biased.y])), biased


class Reference:
    """The global model on a client's images, where it answers once for all personal models.

    Args:
        model: the global model; takes (B, C, H, W) and returns logits (B, K).
        own: the client's images.
    """

    def __init__(self, model: Classifier, own: ClientImages) -> None:
        self._x, self._y = own.images.x, own.images.y
        self._probed = own.probed if own.probed is not None else self._x[:, None]
        self._donor_classes = self._y[own.donors] if own.donors is not None else self._y[:, None]
        self._answers = answer(model, self._x, self._probed, self._y)

    def compare(self, personal_model: Classifier) -> Reliance:
        """What the probe tells of a personal model; without one, what both do on the images as they are."""
        answers = answer(personal_model, self._x, self._probed, self._y)
        return compare_answers(self._answers, answers, self._y, self._donor_classes)


@dataclass(frozen=True)
class Finding:
    """What the audit found of one personal model.

    Attributes:
        reliance: what the probe found; without one, its values of the images as they are.
        peers: what peers found; None where none were asked.
        verdict: what is said.
    """

    reliance: Reliance
    peers: PeerEstimate | None
    verdict: Verdict


def judge_model(reliance: Reliance, counts: Sequence[PeerCounts] | None, options: AuditOptions) -> Finding:
    """What is said of one personal model.

    Args:
        reliance: what its client's images tell.
        counts: what peers answered; None where none were asked.
        options: what is asked of the audit.
    """
    peers = None if counts is None else estimate_by_peers(reliance.change, counts)
    verdict = judge(reliance, peers, has_probe=options.probe is not None, tolerance=options.tolerance)
    return Finding(reliance, peers, verdict)


def log_predictions(model: Classifier, x: Tensor) -> Tensor:
    """Logarithms of what a model predicts, shape (N, K), in bounded memory."""
    with frozen(model), torch.no_grad():
        return torch.cat([F.log_softmax(model(part), dim=1) for part in torch.split(x, ATTACK_BATCH)])


def divergence(log_g: Tensor, log_p: Tensor) -> float:
    """Mean ``KL(f_g(x) || f_p(x))`` over images, in nats, of what :func:`log_predictions` gives."""
    return float(F.kl_div(log_p, log_g, reduction="batchmean", log_target=True))
