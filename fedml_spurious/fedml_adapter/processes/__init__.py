"""Runs with several processes over MPI and GRPC: a server, and workers or silos.

Imports ``fedml_adapter`` beside it and every room below; nothing imports it but the command line.
"""
