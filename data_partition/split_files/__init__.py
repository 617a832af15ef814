"""Client split files: HDF5 in the layout that FedML's own loaders read, written, read and checked.

Imports ``fedml_spurious.common`` alone, and no torch. The names below are for users.
"""

from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import (
    FORMAT_VERSION,
    SPLITS,
    ClientMeta,
    FileMeta,
    SplitInfo,
    SplitMeta,
    client_name,
    meta_path,
    read_meta,
    split_path,
    write_meta,
)
from data_partition.split_files.samples import Samples
from data_partition.split_files.writer import SplitWriter, already_there

__all__ = [
    "FORMAT_VERSION",
    "SPLITS",
    "ClientMeta",
    "FileMeta",
    "Samples",
    "SplitFolder",
    "SplitInfo",
    "SplitMeta",
    "SplitWriter",
    "already_there",
    "client_name",
    "meta_path",
    "read_meta",
    "split_path",
    "write_meta",
]
