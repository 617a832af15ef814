"""A grid of runs: one ordinary run folder per cell and seed, several at a time, and one table of all of them.

Everything that a run determines is determined below; here is only what to run, and in how many processes.
"""
