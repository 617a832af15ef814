"""What the audit says of a personal model: more, not more, or that it cannot say, and why."""

from __future__ import annotations

from dataclasses import dataclass

from fedml_spurious.analysis.reliance import Estimate, Reliance
from fedml_spurious.common.words import counted
from fedml_spurious.results.audits import BIASED_REFERENCE, CANNOT_SAY, MORE, NOT_MORE

FEWEST_IMAGES, FEWEST_PEERS = 25, 5
_WEAKEST_REFERENCE = 0.5
"""Accuracy below which the global model is no reference."""
_FEWEST_FLIPS = 0.02
"""A probe that changes fewer predictions of both models does not change what they use."""
_MOST_APART = 0.10
"""Points between the estimates of probe and peers beyond which one of them misses something."""


@dataclass(frozen=True)
class PeerEstimate:
    """What other clients found with the personal model.

    Attributes:
        clients: number of clients that were asked.
        images: number of their images.
        delta: estimate of the rise of the disparity; None where no client was asked.
    """

    clients: int
    images: int
    delta: Estimate | None

    @property
    def usable(self) -> Estimate | None:
        """The estimate, where enough clients were asked."""
        return self.delta if self.clients >= FEWEST_PEERS else None


@dataclass(frozen=True)
class Verdict:
    """What is said.

    Attributes:
        word: one of ``results.audits.VERDICTS``.
        reason: why, in words.
    """

    word: str
    reason: str


def judge(reliance: Reliance, peers: PeerEstimate | None, *, has_probe: bool, tolerance: float) -> Verdict:
    """Say whether a personal model relies more on the attribute than the global one.

    Peers alone can say ``more``; that there is no more needs a probe, which names what is meant.

    Args:
        reliance: what the probe found; without one, what both models do on the images as they are.
        peers: what other clients found; None where none were asked for.
        has_probe: whether there was a probe.
        tolerance: rise of the disparity that counts as none, in [0, 1].
    """
    usable = peers.usable if peers else None
    reason = _weakness(reliance, peers, has_probe)
    if not reason and has_probe:
        reason = _failing_probe(reliance) or _disagreement(reliance.delta, usable) or _idle_probe(reliance)
    if reason:
        return Verdict(CANNOT_SAY, reason)
    if has_probe:
        return _by_probe(reliance, tolerance)
    assert usable is not None  # too few peers are a weakness
    return _by_peers(usable, tolerance)


def _by_probe(reliance: Reliance, tolerance: float) -> Verdict:
    delta, found = reliance.delta, f"the probe finds a rise of {_text(reliance.delta)}"
    if delta.low > tolerance:
        return Verdict(MORE, f"{found}, all above {tolerance:g}")
    if delta.high >= tolerance:
        return Verdict(CANNOT_SAY, f"{found}, on both sides of {tolerance:g}")
    disparity = reliance.disparity_global.value
    relative = (
        f"; the global model is biased itself (its disparity by the probe is {disparity:.3f}), so this is "
        "relative to a biased reference"
        if disparity > BIASED_REFERENCE
        else ""
    )
    return Verdict(NOT_MORE, f"{found}, all below {tolerance:g}{relative}")


def _by_peers(delta: Estimate, tolerance: float) -> Verdict:
    found = f"peers find a rise of {_text(delta)}"
    if delta.low > tolerance:
        return Verdict(MORE, f"{found}, all above {tolerance:g}")
    return Verdict(CANNOT_SAY, f"{found}, not all above {tolerance:g}; only a probe can say 'not more'")


def _weakness(reliance: Reliance, peers: PeerEstimate | None, has_probe: bool) -> str:
    """What keeps anything from being said; empty where nothing does."""
    if not has_probe and peers is None:
        return "no attribute was named (--probe) and no peers were asked (--peers)"
    if reliance.images < FEWEST_IMAGES:
        return f"{counted(reliance.images, 'image')}, fewer than {FEWEST_IMAGES}"
    if reliance.acc_global < _WEAKEST_REFERENCE:
        return f"the global model is too weak a reference: its Acc_B is {reliance.acc_global:.3f}"
    if not has_probe and peers is not None and peers.usable is None:
        return f"{counted(peers.clients, 'peer')}, fewer than {FEWEST_PEERS}"
    return ""


def _failing_probe(reliance: Reliance) -> str:
    if reliance.classes < 2:
        return "fewer than two donor classes: all its images are of one class, and a donor is of another"
    chance = 1 / reliance.classes
    if max(reliance.probed_global, reliance.probed_personal) <= chance:
        return (
            f"under the probe both models are at chance ({chance:.2f}): it destroys the content, or both "
            "models rely on the attribute alone"
        )
    return ""


def _disagreement(delta: Estimate, peers: Estimate | None) -> str:
    if peers is None or abs(peers.value - delta.value) <= _MOST_APART:
        return ""
    blind = "peers see a change that your probe does not"
    seen = blind if peers.value > delta.value else "your probe sees a change that peers do not"
    return f"{seen}: {peers.value:+.3f} by peers, {delta.value:+.3f} by the probe"


def _idle_probe(reliance: Reliance) -> str:
    flips = max(reliance.flips_global, reliance.flips_personal)
    return "the probe flips neither model: it does not change what these use" if flips < _FEWEST_FLIPS else ""


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
