"""Settings of a run: sections, the options of every method, and how they are read from YAML and ``--set``.

Imports ``personalization``, ``learning``, ``results`` and ``common``, and ``data_partition`` for its options.
"""
