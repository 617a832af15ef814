"""Sentences below a table: of what its rows are, and how they were made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fedml_spurious.common.words import counted
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.dataset_table import AGAINST_OURS, share_cell
from fedml_spurious.results.method_names import BASELINE, BATCHNORM_OF_ITS_OWN, GLOBAL, selected_by
from fedml_spurious.results.paper import PAPER_ROUNDS, TABLE_1, TITLES, paper_shares
from fedml_spurious.results.rows import MethodSummary
from fedml_spurious.results.significance import FEW_CLIENTS, FEW_FL_SEEDS, RESAMPLES

_OLDER = "older"
"""What versions did that had no ``batchnorm_mode``."""
_BATCHNORM = {
    "frozen": "under the global model's statistics",
    "batch": "under the batch's statistics",
    _OLDER: "under the batch's statistics, in the adversarial term under running ones (an older version)",
}


def commas(items: Iterable[Any]) -> str:
    """Items with commas between them."""
    return ", ".join(map(str, items))


def setting_note(runs: DatasetRuns) -> str:
    """In what the setting may be another than the paper's, so that nobody compares without seeing it."""
    config = runs.runs[0].config
    train, fine_tuning = config.get("train_args", {}), config.get("personalization_args", {})
    learning_rate = train.get("learning_rate")
    # What it has, as the paper has it (appendix C.2, Table 6), and in words.
    found = [
        (train.get("comm_round"), PAPER_ROUNDS, "federated round"),
        (train.get("client_num_per_round"), 5, "client per round"),
        (train.get("epochs"), 5, "local epoch"),
        (fine_tuning.get("epochs"), 5 if runs.dataset == "colored_mnist" else 10, "epoch of fine-tuning"),
        (learning_rate, 1e-4, "learning rate"),
        (fine_tuning.get("learning_rate"), 1e-4, "learning rate of fine-tuning"),
        (config.get("model_args", {}).get("fc_width"), 4096, "fc_width"),
    ]
    parts = []
    for value, theirs, words in found:
        # The rounds are said always, the rest where it is another.
        if value is None or (value == theirs and words != "federated round"):
            continue
        is_count = words.split()[0] not in ("learning", "fc_width")
        text = _of_each(value, words) if is_count else f"{words} {value:g}"
        other = runs.dataset in TITLES and value != theirs
        parts.append(text + (f" (the paper: {theirs:g})" if other else ""))
    options = config.get("data_args", {}).get("partition")
    if options and runs.own_clients:
        options = options | {"seed": "its own for every federated seed"}
    made = [f"{name}={'null' if value is None else value}" for name, value in (options or {}).items()]
    parts += [f"split files made with {commas(made)}"] if made else []
    return f"Setting: {'; '.join(parts)}."


def _of_each(count: int, words: str) -> str:
    """A count and its noun, which may have words behind it: ``2 clients per round``."""
    noun, per, rest = words.partition(" per ")
    return f"{counted(count, noun)}{per}{rest}"


def seeds_note(runs: DatasetRuns) -> str:
    """Which methods have which pairs of seeds, where these differ; empty where they do not."""
    pairs: dict[str, set[tuple[int, int | None]]] = {}
    for row in runs.results:
        if row.method != GLOBAL:
            pairs.setdefault(row.method, set()).add((row.fl_seed, row.p_seed))
    groups: dict[tuple[str, ...], list[str]] = {}
    for method, found in pairs.items():
        groups.setdefault(tuple(f"fl{fl} p{p}" for fl, p in sorted(found, key=str)), []).append(method)
    if len(groups) < 2:
        return ""
    listed = "; ".join(f"{commas(methods)} {commas(found)}" for found, methods in groups.items())
    return f"Not all methods have the same pairs of seeds: {listed}."


def paper_note(runs: DatasetRuns) -> str:
    """What the methods keep and take back in the paper; empty where the paper has none of them."""
    texts = []
    for method in runs.methods():
        if method not in (GLOBAL, BASELINE) and TABLE_1.get(runs.dataset, {}).get(method):
            found = paper_shares(runs.dataset, method)
            texts.append(f"{method} {share_cell(found.kept)} and {share_cell(found.taken_back)}")
    return f"Kept and taken back in the paper's Table 1: {commas(texts)}." if texts else ""


def selection_note(runs: DatasetRuns) -> str:
    """How the epoch of a personal model was selected, and how BatchNorm was treated until then."""
    methods = [method for method in runs.methods() if method != GLOBAL]
    if not methods:
        return ""
    if runs.runs[0].epoch == "last":
        epoch = "Last epoch of every personal model, whichever was selected."
    else:
        listed = "; ".join(f"{commas(names)} by {rule}" for rule, names in _by(selected_by, methods).items())
        # Versions without the key took the earliest.
        epoch = f"Selected epoch: {listed}; of equals the {_option(runs, 'selection_ties', 'earliest')}."
    default = _option(runs, "batchnorm_mode", _OLDER)
    modes = _by(lambda method: BATCHNORM_OF_ITS_OWN.get(method, default), methods)
    texts = [(f"{commas(names)} " if len(modes) > 1 else "", mode) for mode, names in modes.items()]
    listed = "; ".join(f"{names}{_BATCHNORM.get(mode, mode)}" for names, mode in texts)
    return f"{epoch} BatchNorm while fine-tuning: {listed}."


def _option(runs: DatasetRuns, key: str, older: str) -> str:
    """A value of ``personalization_args``, in which runs that were joined agree."""
    return str(runs.runs[0].config.get("personalization_args", {}).get(key, older))


def _by(rule: Callable[[str], str], methods: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for method in methods:
        found.setdefault(rule(method), []).append(method)
    return found


def coefficient_note(runs: DatasetRuns) -> str:
    """The coefficients of every method that has some."""
    texts = {method: runs.coefficients(method) for method in runs.methods()}
    listed = "; ".join(f"{method} {text}" for method, text in texts.items() if text)
    seeds = {decision.seeds for run in runs.runs for decision in run.decisions.values()}
    named = " and ".join(sorted(f"fl{pair.fl_seed} p{pair.p_seed}" for pair in seeds))
    tuned = f" Tuned with the seeds {named}." if named else ""
    return f"Coefficients: {listed}.{tuned}" if listed else ""


def budget_note(runs: DatasetRuns) -> str:
    """The attack's budget of every global model, and how many attacks succeed with it (appendix C.2)."""
    texts = []
    for name, budget in (item for run in runs.runs for item in run.budgets.items()):
        outside = "" if budget.in_range else ", outside the wanted range"
        rate = f"{budget.success_rate:.0%} of the attacks succeed{outside}"
        texts.append(f"{name} {budget.eps:.3g} ({rate})")
    return f"Attack budget: {commas(dict.fromkeys(texts))}." if texts else ""


def clients_note(summaries: Sequence[MethodSummary]) -> str:
    """Which rows are of some clients only; empty where all are of all."""
    found = [
        f"{summary.method} applies to {summary.applicable_clients} of "
        f"{counted(summary.all_clients, 'client')}, and its row is of "
        + ("that one." if summary.applicable_clients == 1 else "those.")
        for summary in summaries
        if 0 < summary.applicable_clients < summary.all_clients
    ]
    found += [
        f"{summary.divergence}: {'its row is of the other models' if summary.clients else 'N/A'}. Lower "
        "personalization_args.learning_rate or the coefficients of the method."
        for summary in summaries
        if summary.divergence
    ]
    found += [
        f"{summary.method}: of {counted(summary.clients, 'client')} {_have(summary.conflicting_clients)} "
        "bias-conflicting samples, of which Acc_BC and disparities are."
        for summary in summaries
        if summary.conflicting_clients < summary.clients
    ]
    return " ".join(found)


def difference_note(summaries: Sequence[MethodSummary]) -> str:
    """What the intervals are of; empty where there are none."""
    found = [summary.against_ours for summary in summaries if summary.against_ours]
    if not found:
        return ""
    clients = sorted({difference.clients for difference in found})
    pairs = sorted({difference.pairs for difference in found})
    heading = AGAINST_OURS.replace("\n", " ")
    few = ["clients"] if clients[0] < FEW_CLIENTS else []
    if any(1 < difference.fl_seeds < FEW_FL_SEEDS for difference in found):
        few.append("federated seeds")
    caveats = [f"With so few {' and '.join(few)} the intervals are too narrow."] if few else []
    caveats += ["One pair of seeds tells nothing about other seeds."] if pairs[0] == 1 else []
    what = (
        f"{heading}: client mean over {_either(clients, 'client')} with bias-conflicting samples and "
        f"{_either(pairs, 'pair')} of seeds; {RESAMPLES:,} bootstrap resamples, "
        "paired over clients and seeds."
    )
    return " ".join([what, *caveats])


def _have(count: int) -> str:
    return f"{count} {'has' if count == 1 else 'have'}"


def _either(counts: Sequence[int], noun: str) -> str:
    *others, last = counts
    return " or ".join([*map(str, others), counted(last, noun)])
