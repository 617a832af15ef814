"""The result of a run in one sentence, with its interval."""

from __future__ import annotations

from fedml_spurious.results.conclusion import conclude
from fedml_spurious.results.dataset_table import DatasetTable
from fedml_spurious.results.method_names import BASELINE, GLOBAL, HEADLINE
from fedml_spurious.results.rows import disparities_of
from fedml_spurious.results.significance import LEVEL, Difference, compare

_COMPARED = (GLOBAL, BASELINE, HEADLINE)


def headline(table: DatasetTable) -> str:
    """What fine-tuning does and what ``ours`` takes back; without these two, what another method does.

    The interval is of the difference of two disparities, paired over clients and seeds. Where a model
    of these diverged, nothing is compared.
    """
    concluded = conclude(table.summaries)
    if concluded:
        against = {summary.method: summary.against_ours for summary in table.summaries}
        difference = against.get(BASELINE)
        diverged = any(summary.divergence for summary in table.summaries if summary.method in _COMPARED)
        if difference is None or diverged:
            return concluded
        where = "below" if difference.mean >= 0 else "above"
        return f"{concluded} The disparity of ours lies {_size(difference)} {where} that of fine-tuning."
    methods = table.runs.methods()
    personal = [method for method in methods if method != GLOBAL]
    if GLOBAL not in methods or not personal:
        return "There is one method alone, and nothing to compare it with."
    method = HEADLINE if HEADLINE in personal else personal[0]
    rows = {name: [row for row in table.runs.results if row.method == name] for name in (GLOBAL, method)}
    # The global model comes first, since compare() takes the seeds of the second.
    found = compare(
        disparities_of(rows[GLOBAL]), disparities_of(rows[method]), own_clients=table.runs.own_clients
    )
    if found is None:
        return f"No client has an accuracy on both test sets for {method} and the global model."
    verb = "lowers" if found.mean >= 0 else "raises"
    return f"{method} {verb} the accuracy disparity of the global model by {_size(found)}."


def _size(difference: Difference) -> str:
    """The size of a difference and its interval; both lose the sign that the words say."""
    if difference.low is None or difference.high is None:
        return f"{abs(difference.mean):.3f} (one client and one pair of seeds: no interval)"
    ends = (difference.low, difference.high)
    low, high = ends if difference.mean >= 0 else (-ends[1], -ends[0])
    return f"{abs(difference.mean):.3f} [{low:.3f}, {high:.3f}] ({LEVEL:.0%} interval)"
