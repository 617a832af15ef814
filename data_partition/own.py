"""Your own data as client split files: from arrays, or from FedML's loaders.

:mod:`data_partition.own_folder` reads image folders.
"""

from data_partition.own_arrays import write_splits
from data_partition.own_fedml import from_fedml

__all__ = ["from_fedml", "write_splits"]
