"""Coloured images: the raw files of MNIST and Coil20, the clients' colour maps, the tint.

Imports ``data_partition.split_files``, ``dealing`` and ``options`` beside it, and ``fedml_spurious.common``.
"""
