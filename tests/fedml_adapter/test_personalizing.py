"""Both steps as FedML classes give the rows of ``fedml-spurious run``, and say what is wrong."""

from __future__ import annotations

import copy
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from running import invoke, without_time
from torch.utils.data import DataLoader, TensorDataset

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import check_settings
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.fedml_adapter import LoaderData, PersonalizingAggregator, PersonalizingTrainer
from fedml_spurious.fedml_adapter.arguments import fedml_arguments, personalization_rounds
from fedml_spurious.fedml_adapter.dataset import fedml_dataset
from fedml_spurious.fedml_adapter.failures import Failures
from fedml_spurious.fedml_adapter.notes import NOTES, Notes, separate
from fedml_spurious.fedml_adapter.simulator import SingleProcessSimulator
from fedml_spurious.fedml_adapter.two_steps import TwoSteps
from fedml_spurious.learning.attacks import SuccessCount
from fedml_spurious.learning.client_data import to_tensors

CPU = torch.device("cpu")
EXAMPLES = Path(__file__).parents[2] / "examples"


def config(splits: Path, **sections: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "data_args": {"dataset": "colored_mnist", "data_cache_dir": str(splits)},
        "model_args": {"model": "cnn_28x28", "fc_width": 8},
        "train_args": {
            "client_num_per_round": 2, "comm_round": 2, "epochs": 1, "batch_size": 16, "learning_rate": 0.001,
        },
        "personalization_args": {"epochs": 2, "save_models": True},
        "attack_args": {"steps": 2, "eps": 0.3},
        "experiment_args": {
            "methods": ["global", "uw", "ours", "own_method:WiseFT"],
            "personalization_seeds": [0, 1],
        },
    }  # fmt: skip
    return found | sections


def arguments(splits: Path, **sections: Any) -> Namespace:
    settings = check_settings(config(splits, **sections), source="test")
    args = fedml_arguments(settings, fl_seed=0, num_clients=3)
    args.comm_round += personalization_rounds(args)
    return args


def model_of(args: Namespace, data: SplitFolder) -> torch.nn.Module:
    settings = check_settings(config(data.folder), source="test")
    return initial_network(settings, data, args.random_seed)


class Recording(PersonalizingAggregator):
    """Keeps what it is sent in the last round, and the global weights that it went out with."""

    def aggregate(self, raw_client_model_or_grad_list: Any) -> Any:
        self.sent = [params for _, params in raw_client_model_or_grad_list]
        return super().aggregate(raw_client_model_or_grad_list)


class Both(NamedTuple):
    command: Path
    classes: Path
    silo: Path
    trainer: PersonalizingTrainer
    aggregator: Recording


@pytest.fixture(scope="module")
def both(conflicting_splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The same run by the command, and by the classes in our simulator."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        result = invoke(config(conflicting_splits), folder / "command")
        assert result.exit_code == 0, result.output
        data = SplitFolder(conflicting_splits)
        args = arguments(conflicting_splits)
        model = model_of(args, data)
        trainer = PersonalizingTrainer(model, args, data, folder=folder / "silo")
        aggregator = Recording(model, args, data)
        dataset = fedml_dataset(data, data.client_ids, batch_size=16)
        SingleProcessSimulator(args, CPU, dataset, model, trainer, aggregator).run()
        aggregator.write(folder / "classes")
    return Both(folder / "command", folder / "classes", folder / "silo", trainer, aggregator)


def test_the_rows_are_those_of_the_command(both: Both) -> None:
    """Every method, one of the user's own among them; clients that take part in FedAvg by turns."""
    for name in ("results.csv", "results_last.csv"):
        assert without_time(both.classes, name) == without_time(both.command, name)
    assert len(without_time(both.classes)) == 3 * (1 + 3 * 2)
    for name in ("table.csv", "table.md", "global/fl0/model.pt", "global/fl0/budget.json"):
        assert (both.classes / name).read_bytes() == (both.command / name).read_bytes()


def test_personal_models_stay_on_the_client_and_global_weights_come_back_unchanged(both: Both) -> None:
    kept = sorted(path.relative_to(both.silo) for path in both.silo.rglob("*.pt"))
    assert kept == sorted(p.relative_to(both.command) for p in (both.command / "personal").rglob("*.pt"))
    for path in kept:
        assert (both.silo / path).read_bytes() == (both.command / path).read_bytes()
    assert not list((both.classes / "personal").rglob("*.pt"))
    final = torch.load(both.command / "global/fl0/model.pt", weights_only=True)
    for params in both.aggregator.sent:
        weights, notes = separate(params)
        assert weights.keys() == final.keys()
        assert all(torch.equal(weights[name], value) for name, value in final.items())
        assert all(outcome.state is None for pairs in notes.outcomes.values() for _, outcome in pairs)


def test_every_client_counts_until_its_attack_fools_nobody(both: Both) -> None:
    """A client cannot know which budget the others will need; no smaller one fools a sample either."""
    found = both.aggregator._found.counts
    assert sorted(found) == ["0000", "0001", "0002"]
    for counts in found.values():
        assert list(counts) == pytest.approx([0.3 * 0.8**place for place in range(len(counts))])
        assert [bool(count.fooled) for count in counts.values()] == [True] * (len(counts) - 1) + [False]


def test_what_the_server_sends_out_tells_no_client_of_another(both: Both) -> None:
    _, notes = separate(both.aggregator.aggregate([(1, params) for params in both.aggregator.sent]))
    assert not notes.outcomes


def test_the_trainer_measures_the_personal_model(both: Both, conflicting_splits: Path) -> None:
    """The last client with the last method and seed, against its row."""
    data = SplitFolder(conflicting_splits)
    loader = fedml_dataset(data, data.client_ids, batch_size=16)[6][2]
    counts = both.trainer.test(loader, CPU, both.trainer.args)
    row = [row for row in without_time(both.command) if row["client"] == "0002"][-1]
    assert counts["test_correct"] / counts["test_total"] == float(row["acc_b"])
    assert counts["test_bc_correct"] / counts["test_bc_total"] == float(row["acc_bc"])
    assert both.aggregator.test_all({}, {}, CPU, both.trainer.args)


def test_what_it_wrote_is_no_run_to_continue(both: Both, conflicting_splits: Path) -> None:
    """FedML's rounds left no protocol of themselves, and the personal models stayed with the clients."""
    before = {path: path.read_bytes() for path in both.classes.rglob("*") if path.is_file()}
    for options in (["--resume"], []):
        result = invoke(config(conflicting_splits), both.classes, *options)
        assert result.exit_code == 2
        assert "was written by FedML's runner" in result.output
    assert before == {path: path.read_bytes() for path in both.classes.rglob("*") if path.is_file()}


def test_only_a_new_or_empty_folder_is_written(both: Both, tmp_path: Path) -> None:
    """The models of clients on the same machine may be in it."""
    (tmp_path / "rank1" / "personal").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path, both.classes):
        with pytest.raises(InputError, match=r"is not empty \(.*give a new or empty folder"):
            both.aggregator.write(folder)
    with pytest.raises(InputError, match="is a file"):
        both.aggregator.write(tmp_path / "notes.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "rank1"]
    (tmp_path / "notes.txt").unlink()
    both.aggregator.write(tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == (both.classes / "results.csv").read_bytes()


def loaders_of(data: SplitFolder, split: str) -> dict[int, Any]:
    tensors = [to_tensors(s.image, s.label, "cpu") for s in (data.load(c, split) for c in data.client_ids)]
    return {index: DataLoader(TensorDataset(x, y), batch_size=7) for index, (x, y) in enumerate(tensors)}


def plain(data: SplitFolder, **options: Any) -> tuple[list[Any], dict[str, Any]]:
    """The data of a FedML program that knows nothing of split files."""
    train, test = loaders_of(data, "train"), loaders_of(data, "test")
    counts = {index: len(loader.dataset) for index, loader in train.items()}
    places = {"validation": loaders_of(data, "val"), "conflicting": loaders_of(data, "test_bc")}
    return [sum(counts.values()), 0, None, None, counts, train, test, data.num_classes], places | options


def test_plain_loaders_give_the_same_rows(conflicting_splits: Path) -> None:
    """Methods that need no group labels; those that do are told that there are none."""
    sections = {
        "attack_args": {"steps": 2, "budget": "fixed"},
        "experiment_args": {"methods": ["global", "uw", "ours"]},
    }
    data = SplitFolder(conflicting_splits)
    dataset, places = plain(data)
    results = []
    for source, given in ((data, fedml_dataset(data, data.client_ids, batch_size=16)), (None, dataset)):
        args = arguments(conflicting_splits, **sections)
        chosen = source or LoaderData(dataset, name="colored_mnist", **places)
        model = model_of(args, data)
        trainer = PersonalizingTrainer(model, args, chosen)
        aggregator = PersonalizingAggregator(model, args, chosen)
        SingleProcessSimulator(args, CPU, given, model, trainer, aggregator).run()
        results.append([{**vars(row), "seconds": None} for row in aggregator.results()])
    split_files, loaders = ([row for row in rows if row["method"] != "uw"] for rows in results)
    assert split_files == loaders
    assert all(row["acc_b"] is None for row in results[1] if row["method"] == "uw")


def test_data_that_lack_something_are_refused(conflicting_splits: Path) -> None:
    data = SplitFolder(conflicting_splits)
    dataset, places = plain(data)
    with pytest.raises(InputError, match="no bias-conflicting test set"):
        LoaderData(dataset, **places | {"conflicting": None})
    with pytest.raises(InputError, match="no validation samples"):
        LoaderData(dataset, **places | {"validation": None})
    del places["validation"][1]
    with pytest.raises(InputError, match="client 0001 has no validation loader"):
        LoaderData(dataset, **places)
    x, y = torch.full((4, 3, 28, 28), -1.0), torch.zeros(4, dtype=torch.int64)
    dataset[5] = dict.fromkeys(range(3), DataLoader(TensorDataset(x, y)))
    with pytest.raises(InputError, match=r"values in \[0, 1\].*got .* from -1 to -1"):
        LoaderData(dataset, **plain(data)[1])


def test_without_conflicting_samples_the_biased_test_set_is_measured(conflicting_splits: Path) -> None:
    data = SplitFolder(conflicting_splits)
    dataset, places = plain(data, conflicting={})
    source = LoaderData(dataset, **places)
    assert source.count("0000", "test_bc") == 0
    assert source.load("0000", "test_bc").image.shape == (0, 3, 28, 28)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"experiment_args": {"methods": ["ft", "outs"]}}, "unknown method 'outs'"),
        (
            {"experiment_args": {"methods": ["ft", "ours"], "grids": {"ours": {"lam_adv": [1.0]}}}},
            "grids: .*chosen by",
        ),
        ({"personalization_args": {"batchnorm": "recalibrate"}}, "recalibrate takes a message"),
        ({"personalization_args": {"clients": ["0009"]}}, "no client '0009'"),
        (
            {"personalization_args": {"epochs": 0}},
            "personalization_args.epochs: expected at least 1",
        ),
        ({"experiment_args": {"fl_seeds": [3]}}, "has one seed, random_seed"),
    ],
)
def test_wrong_settings_are_named(
    sections: dict[str, dict[str, Any]], message: str, conflicting_splits: Path
) -> None:
    args = arguments(conflicting_splits)
    args.personalization_args.pop("wise_ft")  # of a method that these settings do not have
    for section, values in sections.items():
        setattr(args, section, {**getattr(args, section), **values})
    data = SplitFolder(conflicting_splits)
    for kind in (PersonalizingTrainer, PersonalizingAggregator):
        with pytest.raises(InputError, match=message):
            kind(model_of(args, data), args, data)


def test_sections_that_fedml_took_apart_are_missed(conflicting_splits: Path) -> None:
    args = arguments(conflicting_splits)
    del args.personalization_args, args.attack_args, args.experiment_args
    data = SplitFolder(conflicting_splits)
    with pytest.raises(InputError, match="put these three below a section spurious_args"):
        PersonalizingTrainer(model_of(args, data), args, data)


def test_rounds_that_do_not_suffice_are_refused(conflicting_splits: Path) -> None:
    args = arguments(conflicting_splits)
    args.comm_round = 1
    data = SplitFolder(conflicting_splits)
    with pytest.raises(InputError, match="comm_round: is 1, and counts the rounds of one for the attack"):
        PersonalizingTrainer(model_of(args, data), args, data)


def test_clients_that_fedml_would_leave_out_are_named_before_anything_is_trained(
    conflicting_splits: Path,
) -> None:
    """FedML draws 2 of 3 with NumPy's generator seeded by the round; in 2 and 3 one is missing."""
    args = arguments(conflicting_splits)
    args.backend = "GRPC"
    data = SplitFolder(conflicting_splits)
    with pytest.raises(InputError, match=r"client 000[012] never takes part in personalization"):
        PersonalizingTrainer(model_of(args, data), args, data)


def test_a_client_that_took_no_part_is_named_at_the_end(both: Both, tmp_path: Path) -> None:
    aggregator = copy.copy(both.aggregator)
    found = dict(aggregator._found.outcomes)
    del found["0001"]
    aggregator._found = type(aggregator._found)(aggregator._found.counts, found)
    with pytest.raises(InputError, match="client 0001 never was personalized"):
        aggregator.write(tmp_path / "run")


def test_weights_of_another_network_are_refused(conflicting_splits: Path) -> None:
    args, data = arguments(conflicting_splits), SplitFolder(conflicting_splits)
    trainer = PersonalizingTrainer(model_of(args, data), args, data)
    with pytest.raises(InputError, match=r"global weights do not fit the model: .*is missing"):
        trainer.set_model_params(OrderedDict(other=torch.zeros(1)))


def test_over_grpc_an_error_travels_in_fedmls_messages(conflicting_splits: Path) -> None:
    """One client's model is another; the others idle, and the server says why."""
    args = arguments(conflicting_splits)
    args.backend, args.client_num_per_round = "GRPC", 3
    data = SplitFolder(conflicting_splits)
    loader = fedml_dataset(data, data.client_ids, batch_size=16)[5][0]
    aggregator = PersonalizingAggregator(model_of(args, data), args, data)
    good = PersonalizingTrainer(model_of(args, data), args, data)
    bad = PersonalizingTrainer(torch.nn.Linear(2, 2), args, data)
    sent = []
    for trainer in (good, bad):
        trainer.set_model_params(aggregator.get_model_params())
        trainer.train(loader, CPU, args)
        sent.append((10, trainer.get_model_params()))
    assert NOTES not in sent[0][1]
    assert "do not fit" in sent[1][1][NOTES].failure
    averaged = aggregator.aggregate(sent)
    aggregator.set_model_params(averaged)
    good.set_model_params(averaged)
    args.round_idx = 3
    good.train(loader, CPU, args)
    assert "do not fit" in good.get_model_params()[NOTES].failure
    with pytest.raises(InputError, match="do not fit"):
        aggregator.results()


def test_of_several_errors_the_first_is_kept() -> None:
    """What follows is often what comes of it."""
    failures = Failures(Namespace(backend="GRPC", rank=1))
    for text in ("", "the first", "", "the second"):
        failures.hear(text)
    with pytest.raises(InputError, match="the first"):
        failures.check()
    assert sum((Notes(failure=text) for text in ("", "early", "late")), Notes()).failure == "early"


def test_clients_that_are_personalized_have_to_be_drawn_in_each_round_that_needs_them(
    conflicting_splits: Path,
) -> None:
    """FedML draws by ``np.random.seed(round)`` and ``np.random.choice``: 1, 2 in round 2, 0, 1 in 3."""
    data = SplitFolder(conflicting_splits)
    args = arguments(conflicting_splits, experiment_args={"methods": ["ft"]})
    args.backend = "GRPC"
    for client in data.client_ids:
        args.personalization_args["clients"] = [client]
        if client == "0001":
            assert TwoSteps(args, data).clients == (client,)
        else:
            with pytest.raises(InputError, match=f"client {client} never takes part in personalization"):
                TwoSteps(args, data)


def test_a_client_that_stopped_counting_is_fooled_by_no_smaller_budget(conflicting_splits: Path) -> None:
    """By hand: 38, 30 and 18 of 40 samples are fooled; the last are 45 %, in the range of 30 to 50 %."""
    data = SplitFolder(conflicting_splits)
    attack, experiment = {"eps": 0.3, "shrink": 0.8}, {"methods": ["ft"]}
    args = arguments(conflicting_splits, attack_args=attack, experiment_args=experiment)
    steps = TwoSteps(args, data)
    eps = [0.3, 0.3 * 0.8, 0.3 * 0.8 * 0.8, 0.3 * 0.8 * 0.8 * 0.8]
    fooled = {"0000": [8, 0], "0001": [10, 10, 8, 4], "0002": [20, 20, 10, 2]}
    counts = {
        client: {
            one: SuccessCount(number, 20 if client == "0002" else 10)
            for one, number in zip(eps, numbers, strict=False)
        }
        for client, numbers in fooled.items()
    }
    found = steps.budget(counts)
    assert (found.eps, found.in_range) == (eps[2], True)
    assert [rate for _, rate in found.trail] == [38 / 40, 30 / 40, 18 / 40]
    with pytest.raises(InputError, match="client 0001 never counted how often the attack succeeds"):
        steps.budget({client: own for client, own in counts.items() if client != "0001"})
