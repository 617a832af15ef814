"""Robust personalized federated learning under spurious features, on FedML 0.9.6.

Importing the package is cheap: torch and FedML are imported by the modules that need them.
"""

__version__ = "0.1.0"
