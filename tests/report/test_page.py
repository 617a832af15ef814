"""A report as text: what it says, that it says it the same way every time, and how large it gets."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from finished_folders import GRID, client_row, constant, drawn, write_audit, write_decision, write_run
from running import Finished, invoke, read_rows
from sklearn.metrics import mutual_info_score

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.cli import main
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.storage import write_csv
from fedml_spurious.common.yaml_files import read_yaml
from fedml_spurious.figures.drawing import Drawing, FigureKind, new_figure
from fedml_spurious.figures.registry import FIGURES
from fedml_spurious.figures.run_splits import open_splits
from fedml_spurious.report import drawings
from fedml_spurious.report.about import changed_settings
from fedml_spurious.report.clients import make_explorer
from fedml_spurious.report.extras import Extra, make_extras
from fedml_spurious.report.headline import headline
from fedml_spurious.report.open_run import open_run
from fedml_spurious.report.page import LIMIT, make_page, write_report
from fedml_spurious.results.dataset_runs import DatasetRuns
from fedml_spurious.results.dataset_table import DatasetTable
from fedml_spurious.results.finished_run import FinishedRun, load_run

SECTIONS = ["result", "run", "table", "figures", "clients", "trail", "curves", "configuration", "downloads"]


class Elements(HTMLParser):
    """Names and attributes of the elements of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def downloads(page: str) -> dict[str, str]:
    """Content of the files inside a page, by name."""
    found = {}
    for link in Elements(page).all("a"):
        if name := link.get("download"):
            data = base64.b64decode(str(link["href"]).partition("base64,")[2])
            found[name] = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    return found


def report(*arguments: Path | str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["report", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def page(finished: Finished) -> str:
    return make_page([finished.folder])


def test_a_run_writes_the_page_that_the_command_writes(
    tiny: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    tiny["experiment_args"] = {"methods": ["global", "ft"], "report": True}
    assert invoke(tiny, tmp_path / "run").exit_code == 0
    again = tmp_path / "again.html"
    assert report(tmp_path / "run", "--out", again) == (0, f"{again}\n")
    assert (tmp_path / "run" / "report.html").read_bytes() == again.read_bytes()


def test_a_run_moved_elsewhere_has_the_same_page(finished: Finished, page: str, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / finished.folder.name
    shutil.copytree(finished.folder, moved)
    assert make_page([moved]) == page


def test_the_sections_come_in_their_order_and_every_link_leads_somewhere(page: str) -> None:
    elements = Elements(page)
    assert [section["id"] for section in elements.all("section")] == SECTIONS
    ids = [attributes["id"] for _, attributes in elements.found if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    links = [str(link["href"]) for link in elements.all("a")]
    assert all(link[1:] in ids or link.startswith("data:") for link in links)
    used = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', page))
    assert used <= set(ids)


def test_the_page_says_how_strong_the_shortcut_is(finished: Finished, page: str, splits: Path) -> None:
    """By another way than the counts of the description: from the samples, with scikit-learn."""
    folder = SplitFolder(splits)
    samples = [folder.load(client, "train") for client in folder.client_ids]
    bits = [mutual_info_score(one.label, one.spurious) / math.log(2) for one in samples]
    label, spurious = (
        np.concatenate([getattr(one, name) for one in samples]) for name in ("label", "spurious")
    )
    pooled = mutual_info_score(label, spurious) / math.log(2)
    right = sum(np.bincount(label[spurious == value]).max() for value in set(spurious)) / len(label)
    text = Elements(page).text
    assert f"the spurious feature tells {statistics.fmean(bits):.2f} of the " in text
    assert f"the spurious feature tells {pooled:.2f} of the " in text
    assert f"sees it alone is right on {right:.1%}, the largest class is" in text


def test_nothing_in_the_page_is_to_be_fetched(page: str) -> None:
    assert 'content="default-src &#39;none&#39;; script-src' in page
    for tag, attributes in Elements(page).found:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in page
    assert re.findall(r"url\((?!#)", page) == []


def test_the_numbers_of_the_explorer_are_those_of_results_csv(finished: Finished) -> None:
    run = load_run(finished.folder)
    explorer = make_explorer(DatasetRuns.of_one(run), {})
    rows = read_rows(finished.folder / "results.csv")
    clients = sorted({row["client"] for row in rows})
    by_client = {
        client: {
            method: statistics.fmean(
                float(row["disparity"]) for row in rows if (row["client"], row["method"]) == (client, method)
            )
            for method in ("global", "ft", "ours")
        }
        for client in clients
    }
    found = {row.client: {one.method: one.disparity for one in row.methods} for row in explorer.rows}
    assert found == {client: pytest.approx(values) for client, values in by_client.items()}
    worst = {client: max(values["ft"], values["ours"]) for client, values in by_client.items()}
    assert [row.client for row in explorer.rows] == sorted(clients, key=lambda client: -worst[client])
    assert [row.is_worst for row in explorer.rows] == [True, False, False, False]  # a tenth of 4, rounded up
    assert explorer.mean[3] == pytest.approx(statistics.fmean(worst.values()))
    assert explorer.median[3] == pytest.approx(statistics.median(worst.values()))


def test_clients_of_seeds_with_own_partitions_are_different_rows(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", drawn, fl_seeds=(0, 1), data={0: "a", 1: "b"})
    explorer = make_explorer(DatasetRuns.of_one(load_run(run)), {})
    expected = sorted(f"fl{seed} 000{client}" for seed in (0, 1) for client in range(4))
    assert sorted(row.name for row in explorer.rows) == expected


def test_a_client_without_conflicting_samples_comes_last_and_has_no_interval() -> None:
    rows = (client_row("ft", "0000", 0.9, None, n_test_bc=0), client_row("ft", "0001", 0.5, 0.5))
    run = FinishedRun(Path("run"), {}, rows, {}, {})
    explorer = make_explorer(DatasetRuns.of_one(run), {})
    assert [row.client for row in explorer.rows] == ["0001", "0000"]
    measured = explorer.rows[1].methods[0]
    assert (measured.acc_bc_interval, measured.disparity_interval) == (None, None)
    assert measured.acc_b_interval is not None


def test_the_downloads_are_the_files_of_the_run(finished: Finished, page: str) -> None:
    files = downloads(page)
    assert files["results_colored_mnist.csv"] == (finished.folder / "results.csv").read_text()
    assert yaml.safe_load(files["config.yaml"]) == read_yaml(finished.folder / "config.yaml")
    table = csv.DictReader(io.StringIO(files["table.csv"]))
    assert {row["method"] for row in table} == {"global", "ft", "ours"}
    assert {"table1.csv", "training_run_fl0.csv", "training_run_fl1.csv"} <= files.keys()


def test_the_settings_that_differ_from_the_shipped_ones_are_named(tmp_path: Path) -> None:
    shipped = yaml.safe_load((Path(__file__).parents[2] / "fedml_configs/quickstart.yaml").read_text())
    shipped["train_args"]["comm_round"] = 13
    shipped["attack_args"] |= {"steps": 9, "step_ratio": 0.25}  # which the file leaves out
    run = write_run(tmp_path / "run", constant, sections=shipped)
    config = shipped | {"experiment_args": {"methods": ["global", "ft", "ours"]}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    # The file's number of epochs is another than the default's, and the run has it.
    defaults = {"attack_args": {"steps": 10, "step_ratio": 0.25}, "train_args": {"epochs": 99}}
    (run / "environment.json").write_text(json.dumps({"defaults": defaults}))
    text = Elements(make_page([run])).text
    assert "Settings that differ from quickstart" in text
    for setting, before, here in (("train_args.comm_round", "12", "13"), ("attack_args.steps", "10", "9")):
        assert re.search(rf"{setting}\s*{before}\s*{here}\s", text), setting
    for same in ("train_args.epochs", "attack_args.step_ratio"):
        assert f"{same}\n" not in text
        assert not re.search(rf"{same}\s*\d", text)


@pytest.mark.parametrize("clients", [1, 10])
def test_the_nearest_configuration_is_of_the_same_kind(clients: int, tmp_path: Path) -> None:
    """But for the number of clients it is the one that ships for data in one place."""
    configs = Path(__file__).parents[2] / "fedml_configs"
    shipped = yaml.safe_load((configs / "centralized_digits.yaml").read_text())
    shipped["data_args"]["partition"]["clients"] = clients
    shipped["train_args"] |= {"client_num_in_total": clients}
    table = changed_settings(open_run(write_run(tmp_path / "run", constant, sections=shipped)))
    assert table
    assert table.columns[1].startswith("centralized") == (clients == 1)


def test_no_part_of_a_figure_is_shown_beside_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(_: object) -> Drawing:
        figure, _ = new_figure(width=1, height=1)
        return Drawing(figure, ("x",), ({"x": 1},))

    def refuse(_: object) -> Drawing:
        raise InputError("nothing is recorded")

    kinds = [
        FigureKind("whole", "", "", draw), FigureKind("part", "", "", draw, part_of=("whole",)),
        FigureKind("other", "other", "", refuse), FigureKind("half", "", "", draw, part_of=("other",)),
        FigureKind("quarter", "", "", draw, part_of=("other", "half")),
        FigureKind("third", "", "", refuse, part_of=("other",)),
    ]  # fmt: skip
    monkeypatch.setattr(drawings, "FIGURES", {kind.name: kind for kind in kinds})
    shown, not_drawn = drawings.draw_figures([])
    assert [figure.download.name for figure in shown] == ["whole.csv", "half.csv"]
    assert not_drawn == (("other", "nothing is recorded"),)
    panels = {name: set(kind.part_of) for name, kind in FIGURES.items() if name.startswith("fig6")}
    assert [name for name, within in panels.items() if not within] == ["fig6"]
    assert (panels["fig6b"], panels["fig6g"]) == ({"fig6", "fig6a-d"}, {"fig6", "fig6e-h"})


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        # By hand: the disparity of ft is 0.25, that of ours 0.05, on every client.
        (
            ("global", "ft", "ours"),
            "disparity of ours lies 0.200 [0.200, 0.200] (95% interval) below that of",
        ),
        (("global", "ft"), "ft raises the accuracy disparity of the global model by 0.250 [0.250, 0.250]"),
        (("ft",), "There is one method alone"),
    ],
)
def test_the_result_is_one_sentence_with_its_interval(
    methods: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    run = load_run(write_run(tmp_path / "run", constant, methods=methods))
    assert expected in headline(DatasetTable.of(DatasetRuns.of_one(run), "mean"))


def test_an_unfinished_run_says_what_is_missing(finished: Finished, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.folder, run)
    (run / "results.csv").unlink()
    shutil.rmtree(run / "personal" / "ours")
    (run / "global/fl1/rounds.csv").unlink()
    rounds = run / "global/fl0/rounds.csv"
    rounds.write_text("".join(rounds.read_text().splitlines(keepends=True)[:-1]))
    code, output = report(run)
    assert (code, output) == (0, f"{run / 'report.html'}\n")
    text = Elements((run / "report.html").read_text()).text
    assert "Global model fl1: 0 of 3 rounds." in text
    assert "Global model fl0: 2 of 3 rounds." in text
    assert "ours: no client is finished" in text
    assert "ft raises the accuracy disparity" in text or "ft lowers the accuracy disparity" in text


def test_a_run_that_measured_nothing_yet_has_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant)
    (run / "results.csv").unlink()
    assert "Nothing is measured yet." in make_page([run])


def test_runs_of_two_data_sets_have_their_own_sections(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, constant, dataset=name) for name in ("colored_mnist", "celeba_real")]
    write_decision(runs[0], "ours")
    page = make_page(runs)
    anchors = [section["id"] for section in Elements(page).all("section")]
    assert {"clients-colored_mnist", "clients-celeba_real"} <= set(anchors)
    assert {"config_colored_mnist.yaml", "config_celeba_real.yaml"} <= downloads(page).keys()


def test_runs_whose_folders_have_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / sweep / "fl0", constant, fl_seeds=(seed,)) for seed, sweep in enumerate("ab")
    ]
    for run in runs:
        write_audit(run)
    page = make_page(runs)
    moved = [shutil.copytree(run, tmp_path / "elsewhere" / run.relative_to(tmp_path)) for run in runs]
    assert make_page(moved) == page
    for name in ("a/fl0", "b/fl0"):
        assert f"Audit of {name} (probe colour" in page
        assert f"Configuration of {name}<" in page
    links = Elements(page).all("a")
    contents = {(link["download"], link["href"]) for link in links if "download" in link}
    names = [name for name, _ in contents]
    assert len(names) == len(set(names))  # a name has one content
    files = downloads(page)
    for run, name in zip(runs, "ab", strict=True):
        assert files[f"audit_{name}_fl0.csv"] == (run / "audit.csv").read_text()


def test_only_runs_whose_folders_have_one_name_are_named_with_the_folder_above(tmp_path: Path) -> None:
    places = ("a/fl0", "b/fl0", "mine", "a_fl0")
    runs = [write_run(tmp_path / place, constant, fl_seeds=(seed,)) for seed, place in enumerate(places)]
    page = make_page(runs)
    above = tmp_path.name  # a_fl0 would name the file of a/fl0
    assert f"<title>Report of a/fl0, b/fl0, mine, {above}/a_fl0</title>" in page
    configs = {f"config_{name}.yaml" for name in ("a_fl0", "b_fl0", "mine", f"{above}_a_fl0")}
    assert configs <= downloads(page).keys()


def _without_column(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name != "p_seed"} for row in rows]


def _of_no_run(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [row | {"fl_seed": "", "p_seed": ""} for row in rows]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_without_column, "audit.csv: holds no rows of an audit (it lacks p_seed); audit the run again"),
        (_of_no_run, "audit.csv: is the audit of models that are of no run (its rows name no seeds); move"),
    ],
)
def test_an_audit_that_is_not_of_the_run_is_one_message(
    change: Callable[[list[dict[str, str]]], list[dict[str, str]]], expected: str, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", constant)
    write_audit(run)
    rows = change(read_rows(run / "audit.csv"))
    write_csv(run / "audit.csv", tuple(rows[0]), rows)
    code, output = report(run)
    assert code == 2, output
    assert expected in output


def test_the_decision_trail_is_in_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant, sections={"experiment_args": GRID})
    write_decision(run, "ours")
    assert "10 lowers the validation accuracy, from 0.9500 to 0.5000" in Elements(make_page([run])).text


def test_a_page_of_508_clients_8_methods_and_an_audit_stays_small(tmp_path: Path) -> None:
    methods = ("global", "ft", "ditto", "uw", "jtt", "adv", "l2", "ours")
    run = write_run(tmp_path / "run", drawn, methods=methods, clients=508)
    write_audit(run)
    page = make_page([run])
    assert len(page.encode()) < 1_500_000
    assert len(page.encode()) < LIMIT  # so that there is room for images
    script = page.partition("<script>")[2].partition("</script>")[0]
    assert len(script.encode()) <= 12_000


def test_images_are_shown_until_the_room_is_used_up(finished: Finished) -> None:
    runs = DatasetRuns.of_one(load_run(finished.folder))
    splits = open_splits(runs.runs)
    explorer = make_explorer(runs, {seed: one.folder.meta for seed, one in splits.items()})
    everything = make_extras(runs, explorer, splits, 10**6)
    assert all(extra.strips and extra.trajectories for extra in everything)
    room = everything[0].size + everything[1].size
    assert make_extras(runs, explorer, splits, room) == (*everything[:2], Extra(), Extra())
    assert make_extras(runs, explorer, splits, room - 1)[1].size == 0


def test_images_show_every_class_of_the_client(finished: Finished, splits: Path) -> None:
    runs = DatasetRuns.of_one(load_run(finished.folder))
    opened = open_splits(runs.runs)
    explorer = make_explorer(runs, {})
    classes = SplitFolder(splits).meta.clients
    for row, extra in zip(explorer.rows, make_extras(runs, explorer, opened, 10**6), strict=True):
        for strip in extra.strips:
            shown = {int(part.split()[0]) for part in strip.caption.split(", ")}
            assert shown == set(classes[row.client].classes)


def test_images_of_silos_are_never_opened(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(finished.folder)
    config = {**run.config, "common_args": {"training_type": "cross_silo"}}
    runs = DatasetRuns.of_one(FinishedRun(run.path, config, run.results, {}, {}))
    monkeypatch.setattr(SplitFolder, "load", lambda *_: pytest.fail("read images of a silo"))
    splits = open_splits(runs.runs)
    assert {one.has_images for one in splits.values()} == {False}
    explorer = make_explorer(runs, {seed: one.folder.meta for seed, one in splits.items()})
    assert not any(extra.strips for extra in make_extras(runs, explorer, splits, 10**6))


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant)
    other = write_run(tmp_path / "other", constant, dataset="celeba_real")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in (
        ((tmp_path / "nothing",), "no such folder; give folders of runs"),
        ((empty,), "is no run folder, it has no config.yaml"),
        ((run, other), "--out: missing"),
        ((run, "--out", empty), "is a folder; expected the name of a file"),
    ):
        code, output = report(*arguments)
        assert code == 2, output
        assert message in output


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", constant)
    code = (
        "import sys; from pathlib import Path; from fedml_spurious.report.page import write_report\n"
        "write_report([Path(sys.argv[1])]); print('torch' in sys.modules, 'fedml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, run], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
    assert write_report([run]).name == "report.html"
