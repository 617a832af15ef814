"""Weights & Biases and TensorBoard, for those who ask for them; nothing is imported or sent otherwise.

Names and steps are those of docs/usage.md. No scalar is of a single client; quantiles over them are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fedml_spurious.common.errors import InputError
from fedml_spurious.common.scratch import private_folder, scratch_folder
from fedml_spurious.config.sections import TrackingArgs
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.results.rows import ClientResult, MethodSummary

QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
_WITHOUT_LOGIN = ("offline", "dryrun", "disabled")
_OVER_CLIENTS = ("acc_b", "acc_bc", "disparity", "acc_adv", "val_acc")


@dataclass(frozen=True)
class Scalars:
    """Values that were measured at one step.

    Attributes:
        group: what stands in front of their names, and of the name of their step.
        step_name: of the step.
        step: how far the run is.
        values: by name.
    """

    group: str
    step_name: str
    step: int
    values: Mapping[str, float]


class _Sink(Protocol):
    def write(self, scalars: Scalars) -> None:
        """Take values."""


def require_tracking(settings: Settings) -> None:
    """Make sure that what the settings ask for can be used; nothing is sent.

    Raises:
        InputError: a library is not installed, or nobody has logged in to Weights & Biases here.
    """
    chosen = settings.tracking_args
    if chosen.enable_tensorboard:
        _import_summary_writer()
    if not chosen.enable_wandb:
        return
    # Its import makes temporary folders.
    with private_folder() as place, scratch_folder(place):
        wandb = _import_wandb()
        if os.environ.get("WANDB_MODE", "").lower() in _WITHOUT_LOGIN or wandb.api.api_key:
            return
    raise InputError(
        "tracking_args.enable_wandb: nobody is logged in to Weights & Biases on this machine; run `wandb "
        "login`, set WANDB_API_KEY or WANDB_MODE=offline in the environment, or set it to false"
    )


@contextmanager
def tracking(settings: Settings, folder: RunFolder) -> Iterator[None]:
    """Log the events of a run as they come: rounds, quantiles over clients, and the table at the end.

    All files go into the run folder. ``WANDB_MODE`` and the other variables of Weights & Biases apply.

    Raises:
        InputError: a library that is asked for is not installed, or Weights & Biases refuses.
    """
    chosen = settings.tracking_args
    with ExitStack() as stack:
        sinks: list[_Sink] = []
        if chosen.enable_wandb:
            sinks.append(stack.enter_context(_wandb(chosen, settings, folder)))
        if chosen.enable_tensorboard:
            sinks.append(stack.enter_context(_tensorboard(folder)))

        def listen(event: str, details: dict[str, Any]) -> None:
            scalars = scalars_of(event, details)
            for sink in sinks:
                if scalars is not None:
                    sink.write(scalars)

        folder.listeners.append(listen)
        try:
            yield
        finally:
            folder.listeners.remove(listen)


def scalars_of(event: str, details: Mapping[str, Any]) -> Scalars | None:
    """The scalars of an event of a run; None where it has none."""
    values = {
        name: float(value)
        for name, value in details.items()
        if isinstance(value, (int, float)) and name not in ("fl_seed", "round", "pair")
    }
    if event == "round":
        return Scalars(f"federated/fl{details['fl_seed']}", "round", details["round"], values)
    if event == "clients":
        return Scalars("personal", "pair", details["pair"], values)
    return Scalars("table", "step", 0, values) if event == "table" else None


class _WandbSink:
    """Weights & Biases, whose horizontal axis is the step of the group."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._known: set[str] = set()

    def write(self, scalars: Scalars) -> None:
        step = f"{scalars.group}/{scalars.step_name}"
        if scalars.group not in self._known:
            self._run.define_metric(step)
            self._run.define_metric(f"{scalars.group}/*", step_metric=step)
            self._known.add(scalars.group)
        self._run.log(
            {step: scalars.step} | {f"{scalars.group}/{name}": v for name, v in scalars.values.items()}
        )


class _TensorboardSink:
    """TensorBoard, where a scalar has its step beside it."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, scalars: Scalars) -> None:
        for name, value in scalars.values.items():
            self._writer.add_scalar(f"{scalars.group}/{name}", value, scalars.step)
        self._writer.flush()


@contextmanager
def _wandb(chosen: TrackingArgs, settings: Settings, folder: RunFolder) -> Iterator[_Sink]:
    wandb, config = _import_wandb(), settings.model_dump(mode="json")
    place = str(folder.path)
    try:
        run = wandb.init(
            project=chosen.wandb_project, name=chosen.run_name, dir=place, config=config, reinit=True
        )
    except wandb.Error as error:
        raise InputError(
            f"tracking_args.enable_wandb: Weights & Biases cannot be used ({error}); mend that, set "
            "WANDB_MODE=offline in the environment, or set it to false"
        ) from error
    try:
        yield _WandbSink(run)
    finally:
        run.finish()


@contextmanager
def _tensorboard(folder: RunFolder) -> Iterator[_Sink]:
    with _import_summary_writer()(str(folder.path / "tensorboard")) as writer:
        yield _TensorboardSink(writer)


def _import_wandb() -> Any:
    try:
        import wandb  # an optional package
    except ImportError:
        raise _not_installed("enable_wandb", "wandb") from None
    return wandb


def _import_summary_writer() -> Any:
    try:
        # An optional package; tensorboard itself needs a protobuf that FedML forbids.
        from tensorboardX import SummaryWriter
    except ImportError:
        raise _not_installed("enable_tensorboard", "tensorboardX") from None
    return SummaryWriter


def _not_installed(key: str, package: str) -> InputError:
    return InputError(
        f"tracking_args.{key}: {package} is not installed; pip install 'fedml_spurious[tracking]', or set it "
        "to false"
    )


def table_metrics(summaries: Sequence[MethodSummary]) -> dict[str, float]:
    """The table's client means as flat metrics ``<method>/<quantity>``."""
    return {
        f"{summary.method}/{name}": value.mean
        for summary in summaries
        for name, value in summary.mean.items()
        if value is not None
    }


def client_quantiles(results: Sequence[ClientResult]) -> list[dict[str, float]]:
    """For every pair of seeds, quantiles over clients as flat metrics ``<method>/<quantity>/<quantile>``.

    The global model, which has no personalization seed, stands with every pair of its federated seed.
    """
    pairs = dict.fromkeys((row.fl_seed, row.p_seed) for row in results)
    personal = [pair for pair in pairs if pair[1] is not None]
    return [
        _quantiles([row for row in results if row.fl_seed == fl_seed and row.p_seed in (None, p_seed)])
        for fl_seed, p_seed in personal or pairs
    ]


def _quantiles(rows: Sequence[ClientResult]) -> dict[str, float]:
    found: dict[str, float] = {}
    for method in dict.fromkeys(row.method for row in rows):
        for quantity in _OVER_CLIENTS:
            values = [getattr(row, quantity) for row in rows if row.method == method]
            present = [value for value in values if value is not None]
            for name, share in QUANTILES.items() if present else ():
                found[f"{method}/{quantity}/{name}"] = float(np.quantile(present, share))
    return found
