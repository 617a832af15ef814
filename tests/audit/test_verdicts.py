"""Verdicts on findings that are written by hand, and how those of several clients are put together."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from fedml_spurious.analysis.reliance import Estimate, Reliance
from fedml_spurious.audit.client import AuditOptions, Finding, make_options
from fedml_spurious.audit.peers import PeerCounts, choose_peers, count_at_peer, estimate_by_peers
from fedml_spurious.audit.pooling import pool
from fedml_spurious.audit.verdicts import PeerEstimate, Verdict, judge
from fedml_spurious.common.errors import InputError
from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.results.audits import CANNOT_SAY, MORE, NOT_MORE


def around(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value, value - half, value + half)


FOUND = Reliance(
    images=40,
    classes=5,
    acc_global=0.9,
    acc_personal=0.95,
    change=around(0.05),
    probed_global=0.85,
    probed_personal=0.6,
    flips_global=0.05,
    flips_personal=0.35,
    disparity_global=around(0.05),
    disparity_personal=around(0.35),
    delta=around(0.3),
    delta_of_set=around(0.3),
)


def verdict(
    found: Reliance = FOUND,
    peers: PeerEstimate | None = None,
    *,
    has_probe: bool = True,
    tolerance: float = 0.05,
) -> Verdict:
    return judge(found, peers, has_probe=has_probe, tolerance=tolerance)


@pytest.mark.parametrize(
    ("delta", "tolerance", "word"),
    [
        (around(0.3), 0.05, MORE),
        (around(0.3), 0.27, MORE),
        (around(0.3), 0.3, CANNOT_SAY),
        (around(0.3), 0.33, NOT_MORE),
        (around(-0.1), 0.05, NOT_MORE),
        (Estimate(0.0, -0.2, 0.2), 0.05, CANNOT_SAY),
        (Estimate(0.1, 0.05, 0.2), 0.05, CANNOT_SAY),  # the interval ends at the tolerance
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(delta: Estimate, tolerance: float, word: str) -> None:
    assert verdict(replace(FOUND, delta=delta), tolerance=tolerance).word == word


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": 24}, "24 images, fewer than 25"),
        ({"acc_global": 0.49}, "the global model is too weak a reference: its Acc_B is 0.490"),
        ({"classes": 1}, "fewer than two donor classes"),
        ({"flips_global": 0.019, "flips_personal": 0.0}, "the probe flips neither model"),
        (
            {"probed_global": 0.2, "probed_personal": 0.1},
            "both models are at chance (0.20): it destroys the content",
        ),
    ],
)
def test_what_keeps_a_verdict_back_is_said(changes: dict[str, float], reason: str) -> None:
    found = verdict(replace(FOUND, **changes))
    assert found.word == CANNOT_SAY
    assert reason in found.reason


def test_one_model_that_a_probe_flips_is_enough_and_one_above_chance_too() -> None:
    assert verdict(replace(FOUND, flips_global=0.0)).word == MORE
    assert verdict(replace(FOUND, probed_personal=0.0)).word == MORE


def test_a_biased_reference_is_said_where_there_is_not_more() -> None:
    biased = replace(FOUND, delta=around(0.0), disparity_global=around(0.3))
    found = verdict(biased)
    assert found.word == NOT_MORE
    assert "the global model is biased itself (its disparity by the probe is 0.300)" in found.reason
    assert "relative to a biased reference" in found.reason
    assert "biased" not in verdict(replace(biased, disparity_global=around(0.09))).reason


def test_peers_that_see_another_change_than_the_probe_take_its_verdict_back() -> None:
    agreeing, blind = PeerEstimate(5, 100, around(0.38)), PeerEstimate(5, 100, around(0.45))
    assert verdict(peers=agreeing).word == MORE
    found = verdict(peers=blind)
    assert found.word == CANNOT_SAY
    assert found.reason.startswith("peers see a change that your probe does not: +0.450 by peers, +0.300")
    assert (
        "your probe sees a change that peers do not" in verdict(peers=PeerEstimate(5, 99, around(0.1))).reason
    )
    # Too few peers say nothing, and the probe stands alone.
    assert verdict(peers=replace(blind, clients=4)).word == MORE
    # A probe that changes nothing, where peers see something: they name the reason.
    idle = replace(FOUND, flips_global=0.0, flips_personal=0.0, delta=around(0.0))
    assert verdict(idle, blind).reason.startswith("peers see a change")


def test_peers_alone_say_more_and_never_not_more() -> None:
    rising, falling = PeerEstimate(5, 100, around(0.3)), PeerEstimate(5, 100, around(-0.3))
    assert verdict(peers=rising, has_probe=False).word == MORE
    found = verdict(peers=falling, has_probe=False)
    assert (found.word, "only a probe can say 'not more'" in found.reason) == (CANNOT_SAY, True)
    assert verdict(peers=replace(rising, clients=4), has_probe=False).reason == "4 peers, fewer than 5"
    assert "no attribute was named" in verdict(has_probe=False).reason


def test_peers_count_on_classes_of_the_client_alone() -> None:
    """By hand: of five images of the classes 0 and 1, the personal model gains one and loses two."""
    y = torch.tensor([0, 0, 1, 1, 1, 2])
    images = Labelled(torch.arange(6.0).reshape(6, 1, 1, 1), y)
    by_global, by_personal = torch.tensor([0, 1, 1, 1, 0, 2]), torch.tensor([0, 0, 1, 0, 0, 2])
    by_personal[2] = 0

    def model(answers: torch.Tensor):  # type: ignore[no-untyped-def]
        return lambda x: torch.eye(3)[answers[x.flatten().long()]]

    asked: list[int] = []

    def global_model(x: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        return model(by_global)(x)  # type: ignore[no-any-return]

    found = count_at_peer(global_model, [model(by_personal), model(by_global)], images, (0, 1))
    assert found == (PeerCounts(images=5, gained=1, lost=2), PeerCounts(images=5, gained=0, lost=0))
    assert asked == [5]  # once, however many personal models there are
    none = PeerCounts(0, 0, 0)
    assert count_at_peer(global_model, [model(by_personal)] * 2, images, (7,)) == (none, none)


def test_the_estimate_by_peers_is_a_difference_of_two_changes() -> None:
    """MOVER (Zou and Donner 2008) of the own change and of Agresti and Min's interval at the peers."""
    found = estimate_by_peers(
        Estimate(0.1, 0.04, 0.15), [PeerCounts(30, 2, 9), PeerCounts(20, 1, 4), PeerCounts(0, 0, 0)]
    )
    assert (found.clients, found.images) == (2, 50)
    there = (3 - 13) / 50
    gained, lost, total = 3.5, 13.5, 52
    center = (gained - lost) / total
    half = norm.ppf(0.975) * math.sqrt(gained + lost - (gained - lost) ** 2 / total) / total
    low, high = center - half, center + half
    assert found.delta is not None
    assert found.delta.value == pytest.approx(0.1 - there, abs=1e-12)
    assert found.delta.low == pytest.approx(found.delta.value - math.hypot(0.06, high - there), abs=1e-9)
    assert found.delta.high == pytest.approx(found.delta.value + math.hypot(0.05, there - low), abs=1e-9)
    assert estimate_by_peers(Estimate(0.1, 0.0, 0.2), []) == PeerEstimate(0, 0, None)


def test_a_method_is_judged_on_the_mean_over_its_clients() -> None:
    options = AuditOptions("colour", lambda image, donor, draw: image)
    values = np.linspace(0.1, 0.4, 20)
    found = {
        (0, 0, f"{place:04}"): Finding(
            replace(FOUND, images=20, delta=around(float(value), 0.1)), None, Verdict(CANNOT_SAY, "")
        )
        for place, value in enumerate(values)
    }
    pooled = pool(found, options, own_clients=False)
    assert pooled.reliance.delta.value == pytest.approx(values.mean())
    # The interval of a mean over clients, as the normal approximation has it.
    half = norm.ppf(0.975) * values.std() / math.sqrt(20)
    assert pooled.reliance.delta.low == pytest.approx(values.mean() - half, abs=0.01)
    assert pooled.reliance.delta.high == pytest.approx(values.mean() + half, abs=0.01)
    assert (pooled.reliance.images, pooled.reliance.classes) == (400, 5)
    assert pooled.verdict.word == MORE
    # A client without donors has a rise of 0 by construction, which is no finding of the probe.
    found[0, 0, "0099"] = Finding(replace(FOUND, classes=1, delta=around(0.0)), None, Verdict(CANNOT_SAY, ""))
    assert pool(found, options, own_clients=False).reliance.delta == pooled.reliance.delta


def pooled_rise(*rises: tuple[int, int, str, float]) -> Finding:
    """What is said of models that nothing can be said of alone, by seeds, client and rise."""
    found = {
        (fl_seed, p_seed, client): Finding(
            replace(FOUND, delta=around(rise, 0.15)), None, Verdict(CANNOT_SAY, "")
        )
        for fl_seed, p_seed, client, rise in rises
    }
    return pool(found, AuditOptions("colour", lambda image, donor, draw: image), own_clients=False)


@pytest.mark.parametrize(
    ("rises", "half"),
    [
        # One client's images stay as few as they are, however often it is personalized.
        ([(0, 0, "a", 0.0), (0, 1, "a", 0.01), (0, 2, "a", 0.02)], 0.15),
        ([(0, 0, "a", 0.06), (0, 0, "b", 0.08)], 0.15 / math.sqrt(2)),
    ],
)
def test_few_clients_that_agree_are_no_surer_than_their_images(
    rises: list[tuple[int, int, str, float]], half: float
) -> None:
    pooled = pooled_rise(*rises)
    value = np.mean([rise for *_, rise in rises])
    delta = pooled.reliance.delta
    assert (delta.low, delta.high) == pytest.approx((value - half, value + half))
    assert pooled.verdict.word == CANNOT_SAY


def test_a_client_counts_whose_model_of_one_seed_is_not_there() -> None:
    pooled = pooled_rise((0, 0, "a", 0.0), (0, 1, "a", 0.0), (0, 0, "b", 0.3))
    assert pooled.reliance.delta.value == pytest.approx(0.15)
    assert pooled.verdict.word == CANNOT_SAY


def test_a_client_with_too_few_peers_takes_nothing_from_the_others() -> None:
    options = AuditOptions("", None, peers=True)
    found = {
        (0, 0, f"{place:04}"): Finding(
            FOUND, PeerEstimate(4 if place == 3 else 10, 50, around(0.3)), Verdict(CANNOT_SAY, "")
        )
        for place in range(10)
    }
    pooled = pool(found, options, own_clients=False)
    assert pooled.peers is not None
    assert (pooled.peers.clients, pooled.peers.images) == (10, 450)
    assert pooled.verdict.word == MORE


def test_one_model_is_judged_on_its_own_images() -> None:
    options = AuditOptions("colour", lambda image, donor, draw: image)
    only = Finding(FOUND, PeerEstimate(6, 60, around(0.25)), Verdict(MORE, ""))
    pooled = pool({(0, 0, "0003"): only}, options, own_clients=True)
    assert (pooled.reliance, pooled.peers) == (only.reliance, only.peers)


@pytest.mark.parametrize("tolerance", [-0.01, 1.01, math.nan])
def test_a_tolerance_that_is_none_is_refused(tolerance: float) -> None:
    with pytest.raises(
        InputError, match=r"--tolerance: is .*, expected a difference of accuracies from 0 to 1"
    ):
        make_options("colour", peers=False, tolerance=tolerance, truth=False)


def test_peers_hold_some_of_the_classes_and_are_at_most_ten() -> None:
    holding = {f"{place:04}": ((0, 1) if place % 2 else (2, 3)) for place in range(40)} | {"0040": (1, 2)}
    meta: Any = SimpleNamespace(
        clients={client: SimpleNamespace(classes=classes) for client, classes in holding.items()}
    )
    peers = choose_peers(meta, "0003", seed=0)
    assert len(set(peers)) == 10
    assert all(set(holding[peer]) & {0, 1} for peer in peers)
    assert "0003" not in peers
    assert peers == choose_peers(meta, "0003", seed=0) != choose_peers(meta, "0005", seed=0)
    few: Any = SimpleNamespace(clients={client: meta.clients[client] for client in ("0000", "0003", "0040")})
    assert choose_peers(few, "0003", seed=0) == ("0040",)
