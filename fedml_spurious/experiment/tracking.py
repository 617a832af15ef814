"""Weights & Biases, for those who ask for it; nothing is imported or sent otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fedml_spurious.common.errors import InputError
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.results.rows import MethodSummary


@contextmanager
def tracking(settings: Settings, folder: RunFolder) -> Iterator[None]:
    """Log the events of a run as they come: rounds with their metrics, and the table at the end.

    ``WANDB_MODE`` and the other variables of Weights & Biases apply; its files go into the run folder.

    Raises:
        InputError: tracking is asked for and Weights & Biases is not installed.
    """
    chosen = settings.tracking_args
    if not chosen.enable_wandb:
        yield
        return
    try:
        import wandb  # an optional package
    except ImportError:
        raise InputError(
            "tracking_args.enable_wandb: wandb is not installed; pip install 'fedml_spurious[tracking]', or "
            "set it to false"
        ) from None
    config = settings.model_dump(mode="json")
    run = wandb.init(
        project=chosen.wandb_project, name=chosen.run_name, dir=str(folder.path), config=config, reinit=True
    )

    def listen(event: str, details: dict[str, Any]) -> None:
        if event in ("round", "table"):
            run.log({f"{event}/{name}": value for name, value in details.items()})

    folder.listeners.append(listen)
    try:
        yield
    finally:
        folder.listeners.remove(listen)
        run.finish()


def table_metrics(summaries: Sequence[MethodSummary]) -> dict[str, float]:
    """The table's client means as flat metrics ``<method>/<quantity>``."""
    return {
        f"{summary.method}/{name}": value.mean
        for summary in summaries
        for name, value in summary.mean.items()
        if value is not None
    }
