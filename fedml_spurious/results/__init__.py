"""Rows per client and what is derived from them: averages, intervals, tables, the paper's values beside ours.

Imports ``common`` alone, and no torch, so that tables of finished runs answer at once.
"""
