"""What was run: the data, the settings that differ from the shipped ones, seeds, versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import fedml_configs
from data_partition.split_files.diagnostics import Shortcut, client_shortcuts, pooled_shortcut
from data_partition.split_files.meta import SPLITS, SplitMeta
from fedml_spurious.common.yaml_files import read_yaml
from fedml_spurious.report.open_run import OpenRun
from fedml_spurious.results.notes import commas
from fedml_spurious.results.text_tables import TextTable

_SPLIT_WORDS = dict(
    zip(SPLITS, ("training", "validation", "biased test", "bias-conflicting test"), strict=True)
)
_ABSENT = "not given"

Facts = list[tuple[str, str]]
"""What and its value, in words."""


def data_facts(name: str, metas: Mapping[int, SplitMeta]) -> Facts:
    """What is known of a data set, from the descriptions of its split files by federated seed."""
    facts = [("Data set", name)]
    if not metas:
        return [*facts, ("Clients", "the split files are gone, which tell of classes and images")]
    meta = next(iter(metas.values()))
    several = len({id(one) for one in metas.values()}) > 1
    shape = f"{meta.image_shape[0]} x {meta.image_shape[1]}"
    of_each = ", of each federated seed" if several else ""
    facts += [
        ("Clients", f"{meta.num_clients}{of_each}; {meta.num_classes} classes; images of {shape}"),
        ("Samples", f"{commas(_counts(meta))}{' (the first seed)' if several else ''}"),
        ("Spurious feature", commas(meta.spurious_names)),
        *_shortcut_facts(list({id(one): one for one in metas.values()}.values())),
    ]
    remarks = list(dict.fromkeys(remark for one in metas.values() for remark in one.remarks()))
    return facts + ([("Remarks", "; ".join(remarks))] if remarks else [])


def _counts(meta: SplitMeta) -> Iterator[str]:
    for split in SPLITS:
        total = sum(own.counts[split] for own in meta.clients.values())
        yield f"{total:,} {_SPLIT_WORDS[split]}"


def _shortcut_facts(metas: Sequence[SplitMeta]) -> Facts:
    """How strong the shortcut is that training samples offer: on a client, and to a model of all clients."""
    clients = [one for meta in metas for one in client_shortcuts(meta).values()]
    pooled = [one for meta in metas if (one := pooled_shortcut(meta))]
    if not clients:
        return []
    over = ", mean of the federated seeds" if len(pooled) > 1 else ""
    return [
        ("Shortcut on a client", f"{_shortcut_words(clients)} (mean of the clients)"),
        ("Shortcut, all pooled", f"{_shortcut_words(pooled)}{over}"),
    ]


def _shortcut_words(found: Sequence[Shortcut]) -> str:
    names = ("aligned", "information", "class_entropy", "by_feature", "by_nothing")
    aligned, information, entropy, alone, largest = (
        fmean(getattr(one, name) for one in found) for name in names
    )
    return (
        f"{aligned:.1%} of the training samples are bias-aligned; the spurious feature tells "
        f"{information:.2f} of the {entropy:.2f} bits of the class (mutual information); the best classifier "
        f"that sees it alone is right on {alone:.1%}, the largest class is {largest:.1%}"
    )


def run_facts(run: OpenRun) -> Facts:
    """Seeds, versions and the digest of the settings."""
    experiment = run.config.get("experiment_args", {})
    fl_seeds = experiment.get("fl_seeds") or [run.config.get("common_args", {}).get("random_seed", 0)]
    common, comm = (run.config.get(name, {}) for name in ("common_args", "comm_args"))
    facts = [
        ("Federated seeds", commas(fl_seeds)),
        ("Personalization seeds", commas(experiment.get("personalization_seeds", [0]))),
        ("Rounds", str(run.config.get("train_args", {}).get("comm_round", "unknown"))),
        ("Processes", f"{common.get('training_type', 'simulation')}, {comm.get('backend', 'sp')}"),
    ]
    packages = run.environment.get("packages", {})
    versions = {"fedml_spurious": run.environment.get("fedml_spurious"), **packages}
    known = [f"{name} {version}" for name, version in versions.items() if version]
    facts += [("Versions", commas(known))] if known else []
    gpu, processors = run.environment.get("gpu"), run.environment.get("processors")
    facts += [("Machine", gpu or f"CPU, {processors} cores")] if gpu or processors else []
    return [*facts, ("Digest of the settings", settings_digest(run.config))]


def settings_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of the settings, whatever the order of their keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def changed_settings(run: OpenRun) -> TextTable | None:
    """The settings that are others than those of the shipped configuration that is nearest to the run.

    What that file leaves out is compared with the default, which the run has stored with its environment;
    of an older run, which has not, it is left out here too.

    Returns:
        A row per setting; None where no configuration of this data set ships.
    """
    settings = flat(run.config)
    defaults = flat(run.environment.get("defaults", {}))
    dataset = run.config.get("data_args", {}).get("dataset")
    found = [
        (name, shipped, _differences(settings, shipped, defaults))
        for name, shipped in _shipped()
        if shipped.get("data_args.dataset") == dataset and _in_one_place(shipped) == _in_one_place(settings)
    ]
    if not found:
        return None
    name, shipped, keys = min(found, key=lambda one: (len(one[2]), one[0]))
    wanted = defaults | shipped
    rows = tuple(
        (key, _text(wanted.get(key, _ABSENT)), _text(settings.get(key, _ABSENT))) for key in sorted(keys)
    )
    return TextTable(
        f"Settings that differ from {name}, the nearest configuration that ships", ("setting", name, "here"),
        rows, left=3,
    )  # fmt: skip


def _in_one_place(settings: Mapping[str, Any]) -> bool:
    """Whether all data are on one client, which is another experiment than a federated one."""
    return 1 in (settings.get("train_args.client_num_in_total"), settings.get("data_args.partition.clients"))


def _shipped() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(Path(fedml_configs.__path__[0]).glob("*.yaml")):
        yield path.stem, flat(read_yaml(path))


def _differences(
    settings: Mapping[str, Any], shipped: Mapping[str, Any], defaults: Mapping[str, Any]
) -> set[str]:
    wanted = {**defaults, **shipped}
    # What a run without stored defaults has beside the shipped file may well be the default.
    keys = settings.keys() | shipped.keys() if defaults else shipped.keys()
    # A key that the configuration of a run lacks is null, which a file may say or leave out.
    return {key for key in keys if settings.get(key) != wanted.get(key)}


def flat(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by ``section.key``; an empty section has none."""
    found: dict[str, Any] = {}
    for name, value in sections.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _text(value: Any) -> str:
    if value is None:
        return _ABSENT
    return f"[{commas(value)}]" if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def environment_facts(run: OpenRun) -> Facts:
    """What ``environment.json`` says, but for the defaults, which are in every version's documentation."""
    environment = {name: value for name, value in run.environment.items() if name != "defaults"}
    return [(key, _text(value)) for key, value in flat(environment).items()]
