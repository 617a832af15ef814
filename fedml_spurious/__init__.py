"""Robust personalized federated learning under spurious features, on FedML 0.9.6.

Importing the package is cheap: torch and FedML are imported by the modules that need them.
"""

from fedml_spurious.common.version import VERSION as __version__  # noqa: F401
