"""CelebA: its label files and images, celebrities dealt to clients, fixed group counts.

Imports ``data_partition.split_files``, ``dealing`` and ``options`` beside it, and ``fedml_spurious.common``.
"""
