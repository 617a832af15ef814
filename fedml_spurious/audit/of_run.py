"""The audit of a finished run: every personal model that it kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from fedml_spurious.audit.client import (
    EXAMPLES,
    AuditOptions,
    Example,
    Finding,
    ask_peers,
    audit_model,
    divergence,
    load_images,
)
from fedml_spurious.audit.files import finding_cells, truth_cells
from fedml_spurious.audit.peers import PeerCounts
from fedml_spurious.audit.pooling import pool
from fedml_spurious.audit.summary import Audited, Told, summarize
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.progress import stage
from fedml_spurious.experiment.client import client_model
from fedml_spurious.experiment.device import choose_device
from fedml_spurious.experiment.stored_run import Run
from fedml_spurious.learning.checkpoints import load_checked, load_tensors
from fedml_spurious.learning.client_data import load_split
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.finished_run import FinishedRun, load_run
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import ClientResult

_FEWEST_OF_CLIENT = 3
"""Examples of a client, so that those of several are seen."""
_Found = list[tuple[ClientResult, Finding, float]]
"""Rows with what was found of their models, and the divergence of these under attack."""


def audit_run(path: Path, options: AuditOptions, console: Console) -> Audited:
    """Audit all personal models of a run; no bias-conflicting test set is read.

    Args:
        path: the run folder.
        options: what is asked.
        console: where progress goes.

    Raises:
        InputError: the run is unfinished, kept no models, or its split files are gone.
    """
    finished, run = load_run(path), _open(path)
    in_silos = run.settings.common_args.training_type == "cross_silo"
    if options.peers and in_silos:
        raise InputError(
            f"--peers: {path} is a run of silos, which read no client of another; leave --peers out"
        )
    measured = [row for row in finished.results if row.method != GLOBAL and row.acc_b is not None]
    models = {row: place for row in measured if (place := _model_path(run, row))}
    if not models:
        raise InputError(
            f"{path}: no personal model is here; make the run again with "
            "--set personalization_args.save_models=true and another --output"
        )
    found: _Found = []
    examples: list[Example] = []
    clients = len({(row.fl_seed, row.client) for row in models})
    per_client = max(_FEWEST_OF_CLIENT, math.ceil(EXAMPLES / clients))
    rows = sorted(models, key=lambda row: (row.fl_seed, row.client))  # stable: methods stay in their order
    with run.splits.sealed(), stage(console, "Audit, personal models", total=len(rows)) as bar:
        for fl_seed, of_seed in groupby(rows, key=lambda row: row.fl_seed):
            model = run.global_model(fl_seed)
            for client, own in groupby(of_seed, key=lambda row: row.client):
                mine = list(own)
                auditor = _Auditor(run, fl_seed, client, model, mine[0].eps or 0.0, options)
                # Images of silos stay where they are.
                examples += [] if in_silos else auditor.own.examples(per_client)
                for row in mine:
                    found.append((row, *auditor.audit(models[row])))
                    bar.advance(f"fl{fl_seed} client {client} {row.method}")
    return _gather(finished, found, examples[:EXAMPLES], options, absent=len(measured) - len(models))


def _open(path: Path) -> Run:
    """The run; on the CPU where it was made on a GPU that is not here."""
    run = Run(path)
    if run.settings.device_args.using_gpu and not torch.cuda.is_available():
        device = run.settings.device_args.model_copy(update={"using_gpu": False})
        run.settings = run.settings.model_copy(update={"device_args": device})
    return run


def _model_path(run: Run, row: ClientResult) -> Path | None:
    """Where a personal model is: in the run folder, or with the silo that trained it, if that is here."""
    own = run.folder.personal_part(row.method, row.fl_seed, row.p_seed)
    inside = own.relative_to(run.folder.path) / "models" / f"{row.client}.pt"
    places = [run.folder.path, *sorted(run.folder.path.glob("silos/rank*"))]
    return next((place / inside for place in places if (place / inside).is_file()), None)


class _Auditor:
    """One client of a run, whose images and global model serve all its personal models."""

    def __init__(
        self, run: Run, fl_seed: int, client: str, model: nn.Module, eps: float, options: AuditOptions
    ) -> None:
        self.data, self.client, self.options = run.splits_of(fl_seed), client, options
        self.device = choose_device(run.settings)
        train = load_split(self.data, client, "train", self.device).labelled()
        self.global_model = client_model(run.settings, model, train)
        self.own = load_images(self.data, client, options, self.device)
        attack = run.settings.attack_args.attack(eps)
        self.x_adv = attack(self.global_model, self.own.biased.x, self.own.biased.y)
        self.personal_model = copy.deepcopy(self.global_model)

    def audit(self, model: Path) -> tuple[Finding, float]:
        """What is found of a personal model, and its divergence from the global one under attack."""
        load_checked(self.personal_model, load_tensors(model), model)

        def ask() -> list[PeerCounts]:
            return ask_peers(self.data, self.client, self.global_model, self.personal_model, self.device)

        finding = audit_model(self.global_model, self.personal_model, self.own, self.options, ask)
        return finding, divergence(self.global_model, self.personal_model, self.x_adv)


def _gather(
    finished: FinishedRun, found: _Found, examples: Sequence[Example], options: AuditOptions, *, absent: int
) -> Audited:
    references = {(row.fl_seed, row.client): row for row in finished.results if row.method == GLOBAL}
    order = {row: place for place, row in enumerate(finished.results)}
    rows, told = [], dict[str, list[tuple[ClientResult, Told]]]()
    for row, finding, kl in sorted(found, key=lambda one: order[one[0]]):
        reference = references.get((row.fl_seed, row.client))
        truth = _rise(row, reference) if options.truth else None
        one = Told(finding, reference.acc_adv if reference else None, row.acc_adv, kl, truth)
        told.setdefault(row.method, []).append((row, one))
        cells = {name: getattr(row, name) for name in ("dataset", "method", "fl_seed", "p_seed", "client")}
        cells |= finding_cells(finding, options)
        cells |= {"acc_adv_global": one.acc_adv_global, "acc_adv_personal": one.acc_adv_personal, "kl": kl}
        if options.truth:
            cells |= truth_cells(finding, truth, options)
        rows.append(cells)
    own_clients = DatasetRuns.of_one(finished).own_clients
    pooled = {
        method: pool(
            {(row.fl_seed, row.p_seed, row.client): one.finding for row, one in ours},
            options,
            own_clients=own_clients,
        )
        for method, ours in told.items()
    }
    by_method: Mapping[str, list[Told]] = {method: [one for _, one in ours] for method, ours in told.items()}
    summary = summarize(by_method, pooled, options, pictured=bool(examples), absent=absent)
    return Audited(rows, summary, list(examples))


def _rise(row: ClientResult, reference: ClientResult | None) -> float | None:
    """By how much the disparity rose over the global model's, on the bias-conflicting test set."""
    if reference is None or reference.disparity is None or row.disparity is None:
        return None
    return row.disparity - reference.disparity
