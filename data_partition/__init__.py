"""Client splits of data sets with spurious features: index arithmetic in NumPy, no torch.

Every data set is a module with ``Options``, ``build`` and ``command``; ``python -m data_partition.NAME``
runs it. :mod:`data_partition.own` writes the same files from any arrays.
"""
