"""What every room uses: errors and their wording, addressed randomness, atomic files, logs, progress.

Imports nothing of ours, neither torch nor FedML.
"""
