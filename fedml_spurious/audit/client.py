"""The audit of one client: its own images, what a probe makes of them, and its peers' counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.analysis.probes import Probe, choose_donors, find_probe, transfer_all
from fedml_spurious.analysis.reliance import Reliance, measure_reliance
from fedml_spurious.audit.peers import PeerCounts, choose_peers, count_at_peer, estimate_by_peers
from fedml_spurious.audit.verdicts import PeerEstimate, Verdict, judge
from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.client_data import Labelled, load_split
from fedml_spurious.learning.modes import Classifier, frozen

EXAMPLES = 12
"""Images that the user is told to look at."""
_SEED = 0


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


def load_images(data: SplitFolder, client: str, options: AuditOptions, device: torch.device) -> ClientImages:
    """The client's validation and biased test images, and what the probe makes of them.

    Raises:
        InputError: it has none, or the probe gives no image.
    """
    images, biased = own_images(data, client, device)
    if not len(images):
        raise InputError(f"{data.folder}: client {client} has neither validation nor biased test images")
    if options.probe is None or len(torch.unique(images.y)) < 2:
        return ClientImages(images, biased, None, None)
    place = data.index(client)
    donors = choose_donors(images.y, seed=_SEED, client=place)
    probed = transfer_all(options.probe_name, options.probe, images.x, donors, seed=_SEED, client=place)
    return ClientImages(images, biased, donors, probed)


def own_images(data: SplitFolder, client: str, device: torch.device) -> tuple[Labelled, Labelled]:
    """All images that the audit may use of a client, and the biased test images among them."""
    with data.sealed():
        val, biased = (load_split(data, client, split, device).labelled() for split in ("val", "test"))
    return Labelled(torch.cat([val.x, biased.x]), torch.cat([val.y, biased.y])), biased


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


def audit_model(
    global_model: Classifier,
    personal_model: Classifier,
    own: ClientImages,
    options: AuditOptions,
    ask: Callable[[], Sequence[PeerCounts]],
) -> Finding:
    """Audit one personal model on its client's images.

    Args:
        global_model: takes (B, C, H, W) and returns logits (B, K).
        personal_model: the same.
        own: the client's images.
        options: what is asked.
        ask: sends the models to peers and gives what they count; called where peers are asked for.
    """
    x, y = own.images.x, own.images.y
    probed = own.probed if own.probed is not None else x[:, None]
    donor_classes = y[own.donors] if own.donors is not None else y[:, None]
    reliance = measure_reliance(global_model, personal_model, x, probed, y, donor_classes)
    peers = estimate_by_peers(reliance.change, ask()) if options.peers else None
    verdict = judge(reliance, peers, has_probe=options.probe is not None, tolerance=options.tolerance)
    return Finding(reliance, peers, verdict)


def ask_peers(
    data: SplitFolder, client: str, global_model: Classifier, personal_model: Classifier, device: torch.device
) -> list[PeerCounts]:
    """Let peers of a client count; only counts come back."""
    classes = data.meta.clients[client].classes
    answers = []
    for peer in choose_peers(data.meta, client, seed=_SEED):
        images, _ = own_images(data, peer, device)
        answers.append(count_at_peer(global_model, personal_model, images, classes))
    return answers


def divergence(global_model: Classifier, personal_model: Classifier, x_adv: Tensor) -> float:
    """Mean ``KL(f_g(x_adv) || f_p(x_adv))`` of the predictions of both models, in nats."""
    with frozen(global_model), frozen(personal_model), torch.no_grad():
        log_g, log_p = (F.log_softmax(model(x_adv), dim=1) for model in (global_model, personal_model))
        return float(F.kl_div(log_p, log_g, reduction="batchmean", log_target=True))
