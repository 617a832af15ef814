"""What a run would need and cost, before it is begun: what is missing, and timed steps of the real network.

Imports the rooms below the command line; ``run`` prints the same estimate where it begins.
"""
