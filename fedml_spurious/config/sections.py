"""Sections of the configuration: FedML's with FedML's key names, and four of our own, frozen."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from data_partition.registry import PARTITIONS
from fedml_spurious.common.frozen_model import FrozenModel
from fedml_spurious.learning.options import BatchNormMode, BatchNormPolicy, LocalTraining, Norm
from fedml_spurious.personalization.options import PAPER_METHODS, SelectionTies

if TYPE_CHECKING:
    from fedml_spurious.learning.attacks import Attack

FilePath = Annotated[str, Field(min_length=1)]


def _no_more_than(limit: int, words: str) -> AfterValidator:
    """A bound far above any use, and below what a library or the memory fails at."""

    def check(value: int) -> int:
        if value > limit:
            raise PydanticCustomError("bound", "at most {words}", {"words": words})
        return value

    return AfterValidator(check)


_BILLION = _no_more_than(10**9, "10^9")
Count = Annotated[int, Field(ge=1), _BILLION]
Seed = Annotated[int, Field(ge=0), _no_more_than(2**63 - 1, "2^63 - 1")]
GpuNumber = Annotated[int, Field(ge=0, le=1023)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _as_tuple(value: Any) -> Any:
    # YAML has lists only; a strict tuple field would refuse them.
    return tuple(value) if isinstance(value, list) else value


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), BeforeValidator(_as_tuple)]
Values = Annotated[
    tuple[int | Annotated[float, Field(allow_inf_nan=False)], ...],
    Field(min_length=1),
    BeforeValidator(_as_tuple),
]
Names = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_as_tuple)]
GpuNumbers = Annotated[tuple[GpuNumber, ...], Field(min_length=1), BeforeValidator(_as_tuple)]
Recordings = Annotated[
    tuple[Literal["trajectories", "divergence", "gamma", "twins"], ...], BeforeValidator(_as_tuple)
]
SiloClients = Annotated[tuple[Names, ...], Field(min_length=1), BeforeValidator(_as_tuple)]


_ADDRESS = re.compile("[A-Za-z0-9.-]+:([0-9]{1,5})")


def _has_port(address: str) -> str:
    found = _ADDRESS.fullmatch(address)
    if not found or not 1 <= int(found[1]) <= 65535:
        raise PydanticCustomError("port", "host:port with a port from 1 to 65535")
    return address


def _is_this_machine(host: str) -> bool:
    """Whether a host is the loopback interface, and not merely called like its addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_Address = Annotated[str, AfterValidator(_has_port)]
Addresses = Annotated[tuple[_Address, ...], Field(min_length=2), BeforeValidator(_as_tuple)]


class Section(FrozenModel):
    """A section of the configuration: unknown keys are errors and types are not converted."""


def _refuse_repeats(section: Section, *keys: str) -> None:
    for key in keys:
        values = getattr(section, key) or ()
        twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
        if twice:
            named = ", ".join(map(str, twice))
            raise PydanticCustomError("repeats", "{key} names {named} twice", {"key": key, "named": named})


class CommonArgs(Section):
    """``common_args``: what kind of run it is, in FedML's words.

    Attributes:
        training_type: ``simulation``, or ``cross_silo``, where every process but the server owns its clients
            and reads no others.
        random_seed: seed of the federated step where ``experiment_args.fl_seeds`` names none.
        scenario: FedML's key; only ``horizontal``.
        using_mlops: FedML's key; its hosted platform is never contacted.
        config_version: FedML's key; read by nothing here.
    """

    training_type: Literal["simulation", "cross_silo"] = "simulation"
    random_seed: Seed = 0
    scenario: Literal["horizontal"] = "horizontal"
    using_mlops: Literal[False] = False
    config_version: str | None = None


@dataclass(frozen=True)
class PartitionOptions:
    """Options of a partition script.

    Attributes:
        given: as the file gives them, for ``config.yaml``.
        checked: as the script takes them; a seed of null is the default here, and is not used.
    """

    given: Any
    checked: FrozenModel

    @property
    def per_fl_seed(self) -> bool:
        """Whether every federated seed has a partition of its own, which ``seed: null`` asks for."""
        return self.given.get("seed", 0) is None

    def of(self, fl_seed: int) -> FrozenModel:
        """The options that make the splits of a federated seed."""
        return self.checked.model_copy(update={"seed": fl_seed}) if self.per_fl_seed else self.checked


def _check_options(given: Any, info: ValidationInfo) -> PartitionOptions | None:
    dataset = info.data.get("dataset")
    if given is None or dataset is None:
        return None
    if dataset not in PARTITIONS:
        raise PydanticCustomError(
            "partition",
            "no partition script '{dataset}'; expected data_args.dataset to be one of {known}",
            {"dataset": dataset, "known": ", ".join(PARTITIONS)},
        )
    known = given
    if isinstance(given, dict) and given.get("seed", 0) is None:  # the federated seed, known when one is run
        known = {name: value for name, value in given.items() if name != "seed"}
    return PartitionOptions(given, PARTITIONS[dataset].Options.model_validate(known))


class DataArgs(Section):
    """``data_args``: the split files, or how they are made for the run.

    Attributes:
        dataset: name of the data set; the split files are ``<dataset>_train.h5`` and so on.
        data_cache_dir: folder of existing client split files.
        partition: options of the partition script that makes the split files in the run folder, where
            ``data_cache_dir`` is absent. ``seed: null`` takes the federated seed, so that every one has
            clients, splits and colour maps of its own (in ``data/fl<SEED>/``); any other seed, 0 where it is
            absent, makes one partition that all federated seeds share.
        raw: folder of the raw data that ``partition`` reads.
        cache_mb: 10^6 bytes of samples that every process keeps, as bytes, on the device where it computes;
            those that were used last. 0 reads the files every time.
    """

    dataset: str = Field(min_length=1)
    data_cache_dir: FilePath | None = None
    partition: Annotated[
        PartitionOptions | None,
        PlainValidator(_check_options),
        PlainSerializer(lambda options: options and options.given),
    ] = None
    raw: FilePath | None = None
    cache_mb: NonNegative = 256.0

    @model_validator(mode="after")
    def _one_source(self) -> DataArgs:
        if (self.data_cache_dir is None) == (self.partition is None):
            raise PydanticCustomError(
                "one_source",
                "expected either data_cache_dir (a folder of split files) or partition (options to make "
                "them), got {got}",
                {"got": "neither" if self.partition is None else "both"},
            )
        return self


class ModelArgs(Section):
    """``model_args``: the network.

    Attributes:
        model: ``cnn_28x28``, ``cnn_64x64``, or ``module:factory``.
        fc_width: width of the hidden fully connected layer; 4096 in the paper.
    """

    model: str = "cnn_28x28"
    fc_width: Count = 4096


class TrainArgs(Section):
    """``train_args``: the federated step (appendix C.2).

    Attributes:
        federated_optimizer: FedML's key; only ``FedAvg``.
        client_optimizer: FedML's key; only ``adam``, which is fresh for every client and round.
        client_num_in_total: number of clients; taken from the split files where it is absent.
        client_num_per_round: clients that train in a round.
        comm_round: number of rounds.
        epochs: local epochs of a client in a round.
        batch_size: samples per batch.
        learning_rate: of Adam.
        weight_decay: of Adam.
    """

    federated_optimizer: Literal["FedAvg"] = "FedAvg"
    client_optimizer: Literal["adam"] = "adam"
    client_num_in_total: Count | None = None
    client_num_per_round: Count = 5
    comm_round: Count = 500
    epochs: Count = 5
    batch_size: Count = 64
    learning_rate: Positive = 1e-4
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _enough_clients(self) -> TrainArgs:
        total = self.client_num_in_total
        if total is not None and self.client_num_per_round > total:
            raise PydanticCustomError(
                "too_many_clients",
                "client_num_per_round is {per_round}, but client_num_in_total is {total}; lower "
                "client_num_per_round",
                {"per_round": self.client_num_per_round, "total": total},
            )
        return self

    def local_training(self) -> LocalTraining:
        """How a client trains in a round."""
        return LocalTraining(self.epochs, self.batch_size, self.learning_rate, self.weight_decay)


class ValidationArgs(Section):
    """``validation_args``: how often the global model is measured and kept.

    Attributes:
        frequency_of_the_test: rounds between measurements of the global model; the last is always measured.
        checkpoint_seconds: seconds between two checkpoints of the federated step, which are what a run that
            was stopped goes on from; 0 keeps one after every round. The last round always has one.
    """

    frequency_of_the_test: Count = 10
    checkpoint_seconds: NonNegative = 10.0


class DeviceArgs(Section):
    """``device_args``: GPUs and threads.

    Attributes:
        using_gpu: train on CUDA.
        gpu_id: number of the GPU.
        worker_gpus: numbers of the GPUs of workers 1, 2, ..., begun again where there are more workers; all
            share ``gpu_id`` where it is absent. Read with several processes only.
        threads: CPU threads of every process; where it is absent ``OMP_NUM_THREADS``; where that is not set
            either, torch's own choice for a single process, else the cores of the host divided by the
            processes there.
    """

    using_gpu: bool = False
    gpu_id: GpuNumber = 0
    worker_gpus: GpuNumbers | None = None
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None


class CommArgs(Section):
    """``comm_args``: the processes of a run and how they talk.

    Attributes:
        backend: ``sp`` is one process, ``MPI`` is for processes that ``mpirun`` starts, ``GRPC`` for those
            that are started one by one with ``--rank`` and ``--role``.
        timeout: seconds without a sign of life after which a process is given up and the run ends.
        start_timeout: seconds that the server waits for all workers at the start.
        silos: number of processes beside the server; for GRPC on one machine.
        silo_clients: ids of the clients of each silo; dealt in turn where it is absent.
        grpc_addresses: ``host:port`` of every rank, the server first; on this machine where it is absent.
        grpc_base_port: port of the server on this machine; rank N has this port plus N.
        grpc_network: consent to addresses outside this machine: GRPC as FedML has it neither encrypts nor
            asks who is there, so that whoever reaches the port can take part.
    """

    backend: Literal["sp", "MPI", "GRPC"] = "sp"
    timeout: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 60.0
    start_timeout: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 180.0
    silos: Annotated[int, Field(ge=1, le=10_000)] | None = None
    silo_clients: SiloClients | None = None
    grpc_addresses: Addresses | None = None
    grpc_base_port: int = Field(default=8890, ge=1, le=65000)
    grpc_network: bool = False

    @property
    def silo_count(self) -> int | None:
        """Number of processes beside the server, where the settings fix it."""
        if self.grpc_addresses is not None:
            return len(self.grpc_addresses) - 1
        return self.silos if self.silo_clients is None else len(self.silo_clients)

    @model_validator(mode="after")
    def _processes_fit(self) -> CommArgs:
        counts = {
            "silos": self.silos,
            "silo_clients": self.silo_clients and len(self.silo_clients),
            "grpc_addresses": self.grpc_addresses and len(self.grpc_addresses) - 1,
        }
        given = {name: count for name, count in counts.items() if count is not None}
        if len(set(given.values())) > 1:
            listed = ", ".join(f"{name} names {count}" for name, count in given.items())
            raise PydanticCustomError("silos", "numbers of silos differ: {listed}", {"listed": listed})
        named = self.grpc_addresses or ()
        twice = [item for item in named if named.count(item) > 1]
        if twice:
            raise PydanticCustomError(
                "address", "grpc_addresses: two ranks have {address}", {"address": twice[0]}
            )
        if self.grpc_addresses is None and self.grpc_base_port + (self.silo_count or 0) > 65535:
            raise PydanticCustomError(
                "port",
                "grpc_base_port: the ports of {silos} silos end above 65535",
                {"silos": self.silo_count},
            )
        outside = [item for item in named if not _is_this_machine(item.rpartition(":")[0])]
        if outside and not self.grpc_network:
            raise PydanticCustomError(
                "network",
                "{address} is not this machine alone, and GRPC here neither encrypts nor asks who is there; "
                "in a network that you trust set comm_args.grpc_network=true",
                {"address": outside[0]},
            )
        return self


class TrackingArgs(Section):
    """``tracking_args``: Weights & Biases and TensorBoard, off by default; both need the extra ``tracking``.

    Attributes:
        enable_wandb: log every round, quantiles over clients and the final table; the one setting that lets a
            run open a network connection.
        enable_tensorboard: write the same into ``tensorboard/`` of the run folder.
        wandb_project: name of the project there.
        run_name: name of the run there.
    """

    enable_wandb: bool = False
    enable_tensorboard: bool = False
    wandb_project: str = "fedml_spurious"
    run_name: str | None = None


class AttackArgs(Section):
    """``attack_args``: PGD and the budget rule.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: the budget, or where the budget rule starts.
        budget: ``rule`` shrinks the budget until the success rate is in range; ``fixed`` takes ``eps``.
        shrink: factor between two budgets of the rule.
        success_low: smallest wanted success rate.
        success_high: largest wanted success rate.
        budget_samples: training samples per client on which the rule counts successes; all where absent.
        steps: steps of PGD.
        step_ratio: length of a step as a share of the budget.
    """

    norm: Norm = "linf"
    eps: Positive = 0.031
    budget: Literal["rule", "fixed"] = "rule"
    shrink: Annotated[float, Field(gt=0, lt=1)] = 0.8
    success_low: Fraction = 0.3
    success_high: Annotated[float, Field(gt=0, le=1)] = 0.5
    budget_samples: Count | None = 256
    steps: Count = 10
    step_ratio: Positive = 0.25

    @model_validator(mode="after")
    def _ordered(self) -> AttackArgs:
        if self.success_low > self.success_high:
            raise PydanticCustomError("order", "success_low is above success_high")
        return self

    def attack(self, eps: float) -> Attack:
        """The attack with a given budget."""
        from fedml_spurious.learning.attacks import Attack  # late: a configuration is checked without torch

        return Attack(self.norm, eps, self.steps, self.step_ratio)


class AnalysisArgs(Section):
    """``analysis_args``: what a run records for figures beside its results. Everything costs time.

    Attributes:
        record: any of these. ``trajectories``: accuracies and losses of personal models after every
            ``personalization_args.trajectory_interval`` batches, or after each where that is 0, in
            ``trajectory.csv`` (figures 4 to 6). ``gamma``: input gradients of the global and the personal
            model on biased test samples after the first and the selected epoch, in ``gamma.csv`` (figure 7,
            appendix D.1). ``twins``: what the models make of coloured test images in every colour, after
            every epoch, in ``twins.csv``. ``divergence``: cosines between the clients' gradients, in
            ``divergence.csv`` (figure 1b), while the global model trains; vectors of its size leave a
            client. ``gamma`` and ``twins`` fine-tune once more. A finished run may be continued with more of
            them, but for ``divergence``.
        divergence_interval: rounds between two recordings of the divergence; the last round is always one.
        samples: samples per client of which gradients are taken, the first ones; all where absent.
    """

    record: Recordings = ()
    divergence_interval: Count = 1
    samples: Count | None = 256

    @model_validator(mode="after")
    def _no_repeats(self) -> AnalysisArgs:
        _refuse_repeats(self, "record")
        return self


class PersonalizationArgs(Section):
    """``personalization_args``: the fine-tuning; every method adds a section of its name with its options.

    Attributes:
        epochs: epochs of the fine-tuning; the paper has 5 on MNIST, 10 on CelebA and Coil20.
        batch_size: samples per batch; as in ``train_args`` where absent.
        learning_rate: of Adam; as in ``train_args`` where absent.
        clients: ids of the clients to personalize; those that the split files name, else all, where absent.
        trajectory_interval: batches between two rows of ``trajectory.csv``; 0 writes none.
        save_models: keep every personal model as ``models/<client>.pt``.
        batchnorm: running statistics of the global model that is attacked, personalized and shown in the
            table as ``global``; ``rounds.csv`` is of the averaged model always, and the weights that FedAvg
            finds do not depend on them. ``aggregate`` averages them like weights (as the paper's FedAvg),
            ``recalibrate`` takes the exact statistics of all clients' training samples together, ``local``
            those of a client's own, so that every client has its own global model in this respect.
        batchnorm_mode: by what BatchNorm layers normalise while methods fine-tune. ``frozen``: the running
            statistics of the global model, as ``batchnorm`` left them, in all terms of the loss; they stay
            what they are, so that attack, loss, selection and measurement speak of one function, and scales
            and shifts train on. ``batch``: the statistics of the batch, which move the running ones; ``adv``
            and ``ours`` then pass clean and adversarial images together. ``head`` is frozen always, and
            ``local``, which does not start from the global model, never.
        selection_ties: which epoch is selected among those whose scores are equal, of which there are many
            where a client has few validation samples: the ``latest``, or the ``earliest``, which reports the
            first steps of a fresh Adam. ``results_last.csv`` has the last epoch whatever was selected.
    """

    batchnorm: BatchNormPolicy = "aggregate"
    batchnorm_mode: BatchNormMode = "frozen"
    selection_ties: SelectionTies = "latest"
    epochs: Count = 5
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    clients: Names | None = None
    trajectory_interval: Annotated[int, Field(ge=0), _BILLION] = 0
    save_models: bool = False

    @model_validator(mode="after")
    def _no_repeats(self) -> PersonalizationArgs:
        _refuse_repeats(self, "clients")
        return self


class ExperimentArgs(Section):
    """``experiment_args``: what is run from one configuration.

    Attributes:
        methods: in the order of the table; ``module:Class`` for a method of your own.
        fl_seeds: seeds of the federated step; ``common_args.random_seed`` where absent.
        personalization_seeds: seeds of the personalization step.
        grids: values of a method's coefficients among which tuning chooses (appendix C.2), by method and
            option; they take the place of ``personalization_args.<method>.<option>``.
        tuning: ``shared`` chooses for all clients together, ``client`` for each by itself; the first pair of
            seeds decides, so ``client`` needs clients that all federated seeds share.
        tuning_reference: below whose validation accuracy a larger coefficient may not fall: that of the
            ``smallest`` value of the grid, of the ``global`` model, or, with ``gain``, that of the global
            model and ``tuning_share`` of what fine-tuning (``ft``, which has to be run) gains over it.
        tuning_share: which share of fine-tuning's gain in validation accuracy has to be kept, in [0, 1];
            read with ``tuning_reference: gain`` only.
        tuning_tolerance: by how much it may fall all the same, in [0, 1].
        trials: ``needed`` tries of every grid what tuning needs, with the first pair of seeds; ``all`` tries
            every combination of the values with all seeds, so that ``figure frontier`` can show them.
        report: write ``report.html`` at the end, which ``fedml-spurious report`` does later too.
    """

    methods: Names = PAPER_METHODS
    fl_seeds: Seeds | None = None
    personalization_seeds: Seeds = (0,)
    grids: dict[str, dict[str, Values]] = Field(default_factory=dict)
    tuning: Literal["shared", "client"] = "shared"
    tuning_reference: Literal["smallest", "global", "gain"] = "gain"
    tuning_share: Fraction = 0.75
    tuning_tolerance: Fraction = 0.0
    trials: Literal["needed", "all"] = "needed"
    report: bool = True

    @model_validator(mode="after")
    def _no_repeats(self) -> ExperimentArgs:
        _refuse_repeats(self, "methods", "fl_seeds", "personalization_seeds")
        return self
