"""A run from its data to its table: the two steps, tuning, tasks for clients, the run folder, resuming.

Imports every room below it, and not FedML: who does the work is given to it.
"""
