"""Settings of a run: sections, the options of every method, and how they are read from YAML and ``--set``.

Imports ``personalization``, ``learning``, ``common``, and ``data_partition`` for the options of a partition.
"""
