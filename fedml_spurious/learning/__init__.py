"""The maths: networks, local training, FedAvg, the attack, the losses, BatchNorm statistics, measurements.

Plain PyTorch; imports ``common``, and ``data_partition.split_files`` for the samples of a client.
"""
