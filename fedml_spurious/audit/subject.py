"""A finished run that is audited, and what refuses one before anything is computed or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedml_spurious.audit.client import AuditOptions
from fedml_spurious.audit.peers import SEED
from fedml_spurious.audit.stored_models import find_model
from fedml_spurious.common.errors import InputError
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.stored_run import Run
from fedml_spurious.results.finished_run import FinishedRun
from fedml_spurious.results.method_names import GLOBAL
from fedml_spurious.results.rows import ClientResult

Models = Mapping[ClientResult, Path | None]
"""Rows of personal models that are there, with their files where these are here and not with silos."""


@dataclass(frozen=True)
class Subject:
    """A run that is audited.

    Attributes:
        finished: its results.
        stored: its settings, data and global models.
        with_silos: whether its silos do the work, and have the personal models.
    """

    finished: FinishedRun
    stored: Run
    with_silos: bool = False

    @property
    def of_silos(self) -> bool:
        """Whether silos made it, whoever works now; their images are not shown."""
        return self.stored.settings.common_args.training_type == "cross_silo"


def key_of(row: ClientResult) -> ResultKey:
    """What a row is about, as the names of files have it."""
    return ResultKey(row.method, row.fl_seed, row.p_seed, row.client)


def require_auditable(subject: Subject, options: AuditOptions) -> None:
    """Refuse what can be refused before anything is computed or written.

    Args:
        subject: the run.
        options: what is asked.

    Raises:
        InputError: it kept no models, the probe does not fit its images, or peers are asked for and its
            silos are not started.
    """
    path = subject.finished.path
    if options.peers and subject.of_silos and not subject.with_silos:
        raise InputError(
            f"--peers: {path} is a run of silos, which read no client of another; start its silos "
            "(mpirun, or --rank and --role), or leave --peers out"
        )
    if options.probe is not None and options.probe_name.startswith(
        "region:"
    ):  # own code sees no made-up image
        height, width, channels = subject.stored.splits.image_shape
        image = torch.zeros(channels, height, width)
        options.probe(image, image, np.random.default_rng(SEED))
    if not subject.with_silos:
        require_any(subject, look_for_models(subject, measured_rows(subject)))


def measured_rows(subject: Subject) -> list[ClientResult]:
    """Rows of personal models."""
    return [row for row in subject.finished.results if row.method != GLOBAL and row.acc_b is not None]


def require_any(subject: Subject, models: Models) -> None:
    """Make sure that there is a personal model.

    Raises:
        InputError: there is none.
    """
    if not models:
        raise InputError(
            f"{subject.finished.path}: no personal model is here; make the run again with "
            "--set personalization_args.save_models=true and another --output"
        )


def look_for_models(subject: Subject, measured: Sequence[ClientResult]) -> Models:
    """The personal models that are in the run folder, or with silos that are here."""
    paths = {row: find_model(subject.stored.folder, key_of(row)) for row in measured}
    return {row: path for row, path in paths.items() if path is not None}
