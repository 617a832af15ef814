"""The paper's figures, drawn from run folders alone: a picture, and the rows of the CSV behind it.

Imports ``common`` and ``results``, and no torch. The face, for the command line, the report and programs:

- ``registry.FIGURES: Mapping[str, FigureKind]``: every figure by name; a :class:`~.drawing.FigureKind` has
  ``name``, ``title`` (one line), ``needs`` (what its runs must have), ``option`` (the setting that records
  it; empty where every run has it) and ``draw``.
- ``registry.find_figure(name: str) -> FigureKind``: also by the paper's number (``4``, ``figure4``).
- ``drawing.draw_figure(kind: FigureKind, runs: Sequence[Path]) -> Drawing``: raises ``InputError`` with one
  message where a folder is no finished run, or a run lacks what the figure needs. A ``Drawing`` has
  ``figure`` (a matplotlib ``Figure``), ``columns`` and ``rows`` (dictionaries).
- ``drawing.picture_bytes(drawing, form) -> bytes``: ``svg``, ``png`` or ``pdf``; same input, same bytes.
- ``drawing.can_draw(kind, runs) -> bool``: whether ``draw_figure`` would not refuse.

A new figure is a module with a function ``draw(runs: Sequence[Path]) -> Drawing`` and a line in
``registry.FIGURES``.
"""
