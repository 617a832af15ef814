"""Client splits of data sets with spurious features: index arithmetic in NumPy, no torch.

Every data set is a module with a ``PARTITION`` (:mod:`data_partition.registry`): its options, and the plan of
who gets what; ``python -m data_partition.NAME`` runs it. :mod:`data_partition.own` writes the same files from
any arrays. Imports ``fedml_spurious.common`` alone.
"""
