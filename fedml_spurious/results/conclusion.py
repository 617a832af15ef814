"""What a table means, in a sentence or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedml_spurious.results.method_names import BASELINE, GLOBAL, HEADLINE, L2
from fedml_spurious.results.rows import MethodSummary
from fedml_spurious.results.shares import Shares


@dataclass(frozen=True)
class _Outcome:
    """Client means of a method."""

    acc_b: float
    disparity: float
    shares: Shares

    def __str__(self) -> str:
        return f"(Acc_B {self.acc_b:.3f}, disparity {self.disparity:.3f})"


def conclude(summaries: Sequence[MethodSummary]) -> str:
    """What fine-tuning does, and what of it ``ours`` keeps and takes back, by the client means.

    A method that is less accurate than the global model is not praised for its disparity. Where ``l2``
    keeps and takes back at least as much as ``ours``, that is said. Of a method that diverged on some
    clients nothing is concluded: those that are left are the easy ones.

    Returns:
        Sentences; empty where the table lacks one of global, ``ft`` and ``ours``.
    """
    diverged = [summary.divergence for summary in summaries if summary.method in (GLOBAL, BASELINE, HEADLINE)]
    if any(diverged):
        return f"No conclusion: {', '.join(filter(None, diverged))}."
    found = {summary.method: _outcome(summary) for summary in summaries}
    reference, tuned, ours = (found.get(method) for method in (GLOBAL, BASELINE, HEADLINE))
    if reference is None or tuned is None or ours is None:
        return ""
    fine_tuning = _fine_tuning(reference, tuned)
    rival = _rival(reference, ours, found.get(L2))
    if ours.acc_b < reference.acc_b:
        return (
            f"{_below(reference, ours)} {fine_tuning}; the disparity of ours is {ours.disparity:.3f}.{rival}"
        )
    return f"{fine_tuning}; ours {_kept_and_taken_back(ours)}.{rival}"


def _outcome(summary: MethodSummary) -> _Outcome | None:
    acc_b, disparity = summary.mean["acc_b"], summary.mean["disparity"]
    if acc_b is None or disparity is None or summary.divergence:
        return None
    return _Outcome(acc_b.mean, disparity.mean, summary.shares["mean"])


def _fine_tuning(reference: _Outcome, tuned: _Outcome) -> str:
    gain = f"gains {tuned.acc_b - reference.acc_b:.3f} in Acc_B"
    if tuned.shares.kept is None:
        gain = f"gains nothing in Acc_B ({_before_and_after(reference.acc_b, tuned.acc_b)})"
    rise = f"raises the accuracy disparity from {reference.disparity:.3f} to {tuned.disparity:.3f}"
    if tuned.shares.taken_back is None:
        before_and_after = _before_and_after(reference.disparity, tuned.disparity)
        rise = f"does not raise the accuracy disparity ({before_and_after})"
    return f"Fine-tuning {gain} and {rise}"


def _before_and_after(before: float, after: float) -> str:
    return f"{before:.3f} for the global model, {after:.3f} after it"


def _below(reference: _Outcome, ours: _Outcome) -> str:
    gap = reference.acc_b - ours.acc_b
    by = f"{gap:.3f}" if gap >= 0.0005 else "less than 0.001"
    nothing = "" if ours.shares.kept is None else ", and keeps nothing of what fine-tuning gains"
    return (
        f"In Acc_B ours lies {by} below the global model ({ours.acc_b:.3f} against {reference.acc_b:.3f})"
        f"{nothing}."
    )


def _kept_and_taken_back(outcome: _Outcome) -> str:
    kept, taken_back = outcome.shares.kept, outcome.shares.taken_back
    parts = []
    if kept is not None:
        parts.append("keeps more than the gain" if kept > 1 else f"keeps {kept:.0%} of the gain")
    if taken_back is not None:
        parts.append(_taken_back(taken_back))
    return f"{' and '.join(parts) or 'has nothing to keep or to take back'} {outcome}"


def _taken_back(share: float) -> str:
    if share < 0:
        return "raises the disparity further"
    return "takes back more than the rise" if share > 1 else f"takes back {share:.0%} of the rise"


def _rival(reference: _Outcome, ours: _Outcome, rival: _Outcome | None) -> str:
    """What ``l2`` does where it is at least as good as ours in both; empty where it is not."""
    if rival is None:
        return ""
    pairs = [(rival.shares.kept, ours.shares.kept), (rival.shares.taken_back, ours.shares.taken_back)]
    compared = [theirs >= own for theirs, own in pairs if theirs is not None and own is not None]
    if not compared or not all(compared):
        return ""
    if rival.acc_b < reference.acc_b:
        too = " too" if ours.acc_b < reference.acc_b else ""
        return f" l2 alone does no worse, and lies below the global model{too} {rival}."
    return f" l2 alone {_kept_and_taken_back(rival)}."
