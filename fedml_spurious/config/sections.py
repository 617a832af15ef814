"""Sections of the configuration, FedML's and four of our own, frozen; data and processes have other files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from fedml_spurious.config.fields import (
    BILLION,
    Count,
    Fraction,
    GpuNumber,
    GpuNumbers,
    Names,
    NonNegative,
    Positive,
    Recordings,
    Section,
    Seed,
    Seeds,
    Values,
    refuse_repeats,
)
from fedml_spurious.learning.options import BatchNormMode, BatchNormPolicy, LocalTraining, Norm
from fedml_spurious.personalization.options import PAPER_METHODS, SelectionTies

if TYPE_CHECKING:
    from fedml_spurious.learning.attacks import Attack


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
        refuse_repeats(self, "record")
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
    trajectory_interval: Annotated[int, Field(ge=0), BILLION] = 0
    save_models: bool = False

    @model_validator(mode="after")
    def _no_repeats(self) -> PersonalizationArgs:
        refuse_repeats(self, "clients")
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
        refuse_repeats(self, "methods", "fl_seeds", "personalization_seeds")
        return self
