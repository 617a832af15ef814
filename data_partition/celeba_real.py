"""CelebA_R: every client represents 20 celebrities (appendix C.1 of the paper).

    python -m data_partition.celeba_real --raw DIR --out DIR

Label: male or female. Spurious feature: blond hair. 10,177 celebrities make 508 clients, 17 are left over
and dropped. 72:8:20 of a client's images train, validate and test. The blond males of its biased test set
are its bias-conflicting test set, copied. Personalized are the clients with more than 5 blond female
training and more than 5 blond male test samples; on random splits those are few (1 to 11 of 508 over 40
seeds, 6 to 71 blond males in all, where the paper has 161).
"""

from __future__ import annotations

import functools

import numpy as np
from pydantic import Field

from data_partition.celeba.clients import deal_identities, personalized_clients, plan_clients
from data_partition.celeba.download import download_celeba
from data_partition.celeba.federation import Deal, plan_celeba
from data_partition.celeba.labels import CelebALabels
from data_partition.celeba.options import CelebAOptions
from data_partition.partition import Partition, Raw
from data_partition.split_files.federation import Federation
from fedml_spurious.common import advice
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.words import counted

NAME = "celeba_real"


class Options(CelebAOptions):
    """Options of CelebA_R; see :class:`~data_partition.celeba.options.CelebAOptions` for the others.

    Attributes:
        train_blond_females_above: personalized clients have more blond female training samples.
        test_blond_males_above: personalized clients have more blond male test samples.
    """

    train_blond_females_above: int = Field(
        5, ge=0, description="personalized clients have more blond female training samples"
    )
    test_blond_males_above: int = Field(
        5, ge=0, description="personalized clients have more blond male test samples"
    )


def deal(labels: CelebALabels, rows: IndexArray, options: Options) -> Deal:
    """Deal the celebrities of the given images to clients and split each client's images.

    Args:
        labels: of all images.
        rows: images that may be used; of a celebrity all or none, shape (M,).
        options: of the federation.

    Raises:
        InputError: there are too few celebrities.
    """
    identities = np.unique(labels.identity[rows])
    num_clients = options.clients or len(identities) // options.identities_per_client
    if num_clients == 0:
        raise InputError(
            f"{counted(len(identities), 'celebrity')} cannot fill one client of "
            f"{options.identities_per_client}; "
            f"ask for fewer with {advice.option('identities_per_client')}"
        )
    shares, left_over = deal_identities(
        identities,
        num_clients=num_clients,
        identities_per_client=options.identities_per_client,
        seed=options.seed,
    )
    clients = plan_clients(labels, rows, shares, first_client=0, ratios=options.ratios, seed=options.seed)
    thresholds = {
        "train_blond_females_above": options.train_blond_females_above,
        "test_blond_males_above": options.test_blond_males_above,
    }
    left_out = {
        "identities_left_over": len(left_over),
        "images_of_identities_left_over": int(np.isin(labels.identity[rows], left_over).sum()),
    }
    personalized = personalized_clients(clients, labels, **thresholds)
    return Deal(clients, personalized, thresholds, left_out)


def plan(options: Options, raw: Raw) -> Federation:
    """Read the labels and deal the celebrities to clients."""
    return plan_celeba(NAME, options, raw, functools.partial(deal, options=options))


PARTITION = Partition(
    NAME,
    Options,
    plan,
    help="CelebA_R: every client represents 20 celebrities; blond hair goes with female.",
    download=download_celeba,
)
build, command = PARTITION.build, PARTITION.command

if __name__ == "__main__":
    command()
