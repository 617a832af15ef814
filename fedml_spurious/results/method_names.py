"""Names of methods, for code that must not wait for torch to be imported."""

from __future__ import annotations

GLOBAL = "global"
BASELINE = "ft"
HEADLINE = "ours"
L2 = "l2"

VALIDATION_ACCURACY = "validation accuracy"
TRANSFERABILITY = "validation accuracy minus the decrease of adversarial transferability"
SELECTED_BY = {
    **dict.fromkeys(("ft", "ditto", "uw", "jtt", "adv", "l2"), VALIDATION_ACCURACY),
    HEADLINE: TRANSFERABILITY,
    **dict.fromkeys(("head", "bn", "group_dro", "grad_align", "local"), VALIDATION_ACCURACY),
}
"""What the epoch of a personal model is selected by (section 7.3), for every built-in method, in the order of
our table."""

BATCHNORM_OF_ITS_OWN = {"head": "frozen", "local": "batch"}
"""Methods whose BatchNorm mode is the same whatever ``batchnorm_mode`` says."""


def selected_by(method: str) -> str:
    """What the epoch of a method's personal model is selected by; a method of one's own has its own rule."""
    return SELECTED_BY.get(method, "a score of its own")
