"""The sentence at the end of a run, in all its cases; shares worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from finished_folders import client_row

from fedml_spurious.results.conclusion import conclude
from fedml_spurious.results.rows import summarize


def conclusion(**methods: tuple[float, float]) -> str:
    """Of one client, from Acc_B and disparity by method; ``global_`` is the global model."""
    rows: list[Any] = [
        client_row(name.strip("_"), "0000", acc_b, acc_b - disparity)
        for name, (acc_b, disparity) in methods.items()
    ]
    return conclude(summarize(rows))


# Fine-tuning gains 0.14 and raises the disparity by 0.2.
GLOBAL, FT = (0.85, 0.05), (0.99, 0.25)
FINE_TUNING = "Fine-tuning gains 0.140 in Acc_B and raises the accuracy disparity from 0.050 to 0.250"
BELOW = (
    "In Acc_B ours lies 0.050 below the global model (0.800 against 0.850), and keeps nothing of what "
    "fine-tuning gains."
)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        # 10 of 14 and 15 of 20.
        (
            (0.95, 0.10),
            f"{FINE_TUNING}; ours keeps 71% of the gain and takes back 75% of the rise (Acc_B 0.950, "
            "disparity 0.100).",
        ),
        (
            (0.95, 0.01),
            f"{FINE_TUNING}; ours keeps 71% of the gain and takes back more than the rise (Acc_B 0.950, "
            "disparity 0.010).",
        ),
        (
            (0.95, 0.30),
            f"{FINE_TUNING}; ours keeps 71% of the gain and raises the disparity further (Acc_B 0.950, "
            "disparity 0.300).",
        ),
        (
            (1.00, 0.10),
            f"{FINE_TUNING}; ours keeps more than the gain and takes back 75% of the rise (Acc_B 1.000, "
            "disparity 0.100).",
        ),
        (
            GLOBAL,
            f"{FINE_TUNING}; ours keeps 0% of the gain and takes back 100% of the rise (Acc_B 0.850, "
            "disparity 0.050).",
        ),
        (
            FT,
            f"{FINE_TUNING}; ours keeps 100% of the gain and takes back 0% of the rise (Acc_B 0.990, "
            "disparity 0.250).",
        ),
        ((0.80, 0.10), f"{BELOW} {FINE_TUNING}; the disparity of ours is 0.100."),
        ((0.80, 0.30), f"{BELOW} {FINE_TUNING}; the disparity of ours is 0.300."),
        (
            (0.8499, 0.10),
            "In Acc_B ours lies less than 0.001 below the global model (0.850 against 0.850), and keeps "
            f"nothing of what fine-tuning gains. {FINE_TUNING}; the disparity of ours is 0.100.",
        ),
    ],
)
def test_what_is_kept_and_taken_back(ours: tuple[float, float], expected: str) -> None:
    assert conclusion(global_=GLOBAL, ft=FT, ours=ours) == expected


@pytest.mark.parametrize(
    ("reference", "tuned", "ours", "expected"),
    [
        (
            (0.85, 0.30),
            (0.99, 0.25),
            (0.95, 0.10),
            "Fine-tuning gains 0.140 in Acc_B and does not raise the accuracy disparity (0.300 for the "
            "global model, 0.250 after it); ours keeps 71% of the gain (Acc_B 0.950, disparity 0.100).",
        ),
        (
            (0.85, 0.05),
            (0.80, 0.25),
            (0.95, 0.10),
            "Fine-tuning gains nothing in Acc_B (0.850 for the global model, 0.800 after it) and raises the "
            "accuracy disparity from 0.050 to 0.250; ours takes back 75% of the rise (Acc_B 0.950, disparity "
            "0.100).",
        ),
        (
            (0.85, 0.30),
            (0.80, 0.25),
            (0.95, 0.10),
            "Fine-tuning gains nothing in Acc_B (0.850 for the global model, 0.800 after it) and does not "
            "raise the accuracy disparity (0.300 for the global model, 0.250 after it); ours has nothing to "
            "keep or to take back (Acc_B 0.950, disparity 0.100).",
        ),
        (
            (0.85, 0.05),
            (0.80, 0.25),
            (0.75, 0.10),
            "In Acc_B ours lies 0.100 below the global model (0.750 against 0.850). Fine-tuning gains "
            "nothing in Acc_B (0.850 for the global model, 0.800 after it) and raises the accuracy "
            "disparity from 0.050 to 0.250; the disparity of ours is 0.100.",
        ),
    ],
)
def test_fine_tuning_that_gains_or_raises_nothing(
    reference: tuple[float, float], tuned: tuple[float, float], ours: tuple[float, float], expected: str
) -> None:
    assert conclusion(global_=reference, ft=tuned, ours=ours) == expected


def test_the_papers_mnist() -> None:
    """Table 1: ours keeps 99 of 137 thousandths and takes back 204 of 280."""
    assert conclusion(global_=(0.852, 0.005), ft=(0.989, 0.285), ours=(0.951, 0.081)) == (
        "Fine-tuning gains 0.137 in Acc_B and raises the accuracy disparity from 0.005 to 0.285; ours keeps "
        "72% of the gain and takes back 73% of the rise (Acc_B 0.951, disparity 0.081)."
    )


@pytest.mark.parametrize(
    ("l2", "ours", "expected"),
    [
        # 12 of 14 and 18 of 20; 10 of 14 and 15 of 20.
        (
            (0.97, 0.07),
            (0.95, 0.10),
            "l2 alone keeps 86% of the gain and takes back 90% of the rise (Acc_B 0.970, disparity 0.070).",
        ),
        (
            (0.95, 0.10),
            (0.95, 0.10),
            "l2 alone keeps 71% of the gain and takes back 75% of the rise (Acc_B 0.950, disparity 0.100).",
        ),
        ((0.97, 0.11), (0.95, 0.10), ""),
        ((0.94, 0.07), (0.95, 0.10), ""),
        (
            (0.95, 0.10),
            (0.80, 0.11),
            "l2 alone keeps 71% of the gain and takes back 75% of the rise (Acc_B 0.950, disparity 0.100).",
        ),
        (
            (0.82, 0.10),
            (0.80, 0.11),
            "l2 alone does no worse, and lies below the global model too (Acc_B 0.820, disparity 0.100).",
        ),
    ],
)
def test_l2_is_named_where_it_is_as_good(
    l2: tuple[float, float], ours: tuple[float, float], expected: str
) -> None:
    without = conclusion(global_=GLOBAL, ft=FT, ours=ours)
    assert conclusion(global_=GLOBAL, ft=FT, l2=l2, ours=ours) == f"{without} {expected}".strip()


def test_l2_is_compared_by_what_there_is() -> None:
    flat = (0.99, 0.05)  # gains 0.14 and raises nothing
    named = " l2 alone keeps 71% of the gain (Acc_B 0.950, disparity 0.200)."
    assert conclusion(global_=GLOBAL, ft=flat, l2=(0.95, 0.2), ours=(0.92, 0.1)).endswith(named)
    assert "l2" not in conclusion(global_=GLOBAL, ft=GLOBAL, l2=(0.95, 0.1), ours=(0.95, 0.1))


@pytest.mark.parametrize("diverged", ["global", "ft", "ours"])
def test_of_a_method_that_diverged_on_a_client_nothing_is_concluded(diverged: str) -> None:
    """One client is left, on which the method shines."""
    rows: list[Any] = [
        client_row(name, "0000", acc_b, acc_b - disparity)
        for name, (acc_b, disparity) in {"global": GLOBAL, "ft": FT, "ours": (0.95, 0.1)}.items()
    ]
    assert conclude(summarize(rows)) != ""
    rows += [
        client_row(name, "0001", None, None, selected_epoch=0) if name == diverged
        else client_row(name, "0001", 0.9, 0.9)
        for name in ("global", "ft", "ours")
    ]  # fmt: skip
    assert conclude(summarize(rows)) == f"No conclusion: {diverged} diverged on 1 of 2 clients."


def test_l2_is_not_named_where_it_diverged_on_a_client() -> None:
    rows: list[Any] = [
        client_row(name, client, acc_b, acc_b - disparity)
        for client in ("0000", "0001")
        for name, (acc_b, disparity) in {"global": GLOBAL, "ft": FT, "ours": (0.95, 0.1)}.items()
    ]
    assert " l2 alone" in conclude(summarize([*rows, client_row("l2", "0000", 0.97, 0.9)]))
    rows += [client_row("l2", "0000", 0.97, 0.9), client_row("l2", "0001", None, None, selected_epoch=0)]
    assert "l2" not in conclude(summarize(rows))


def test_l2_below_the_global_model_is_not_praised_where_ours_is_not_below() -> None:
    """Fine-tuning gains nothing, so that l2 is compared by the disparity alone."""
    found = conclusion(global_=GLOBAL, ft=(0.80, 0.25), l2=(0.70, 0.05), ours=(0.95, 0.10))
    assert found.endswith(
        " l2 alone does no worse, and lies below the global model (Acc_B 0.700, disparity 0.050)."
    )


@pytest.mark.parametrize("missing", ["global_", "ft", "ours"])
def test_without_the_three_methods_there_is_no_sentence(missing: str) -> None:
    methods = {"global_": GLOBAL, "ft": FT, "l2": (0.95, 0.1), "ours": (0.95, 0.1)}
    assert conclusion(**{name: value for name, value in methods.items() if name != missing}) == ""
