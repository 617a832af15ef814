"""The installable package: what it needs and what it installs. Tool settings are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import Distribution, find_packages, setup

# From setuptools' own copy of distutils, which importing setuptools puts in place.
from distutils.command.install_data import install_data  # isort: skip

HERE = Path(__file__).parent
README = HERE / "README.md"

# Under these, `import fedml` works and prints nothing. FedML itself pins the rest.
FEDML = [
    "fedml==0.9.6",  # the adapter and the `fedml run` hook rely on its internals
    "setuptools>=77.0.3,<80.9",  # FedML imports pkg_resources: 80.9 warns about it, 81 dropped it
    "chardet<6",  # requests 2.31, which FedML pins, warns about newer ones
    # One index serves both in matching builds; FedML imports torchvision with torch.
    "torch>=2.4",  # fused Adam on the CPU
    "torchvision",
    "numpy<2",
]

EXTRAS = {
    "mpi": ["mpi4py", "openmpi"],
    "grpc": ["grpcio", "msgpack"],
    "tracking": ["wandb==0.13.2", "tensorboardX"],
    "test": [
        *("hypothesis", "pytest", "pytest-timeout", "pytest-xdist", "uv"),
        *("pypdf", "selenium"),  # reports are tested in Chromium, and as it prints them
    ],
    "mutants": ["mutmut>=3.8"],
    "dev": ["build", "mypy", "ruff", "types-PyYAML"],
}


class InstallBesidePackages(install_data):
    """Installs ``data_files`` into site-packages, where Python looks for ``.pth`` files.

    setuptools lists in RECORD what this command writes, so every installer removes it again.
    """

    def finalize_options(self) -> None:
        """Take the folder of the packages instead of the data folder."""
        self.set_undefined_options("install", ("install_purelib", "install_dir"))
        super().finalize_options()


class WithDataFiles(Distribution):
    """Has its ``data_files`` installed in editable installs too."""

    def has_data(self) -> bool:
        """What setuptools asks before it runs ``install_data`` for an editable wheel."""
        return self.has_data_files()


def version() -> str:
    """``__version__`` of the package, read without importing it."""
    source = (HERE / "fedml_spurious" / "common" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', source, flags=re.MULTILINE)
    if found is None:
        raise ValueError('fedml_spurious/common/version.py: no line of the form __version__ = "..."')
    return found[1]


setup(
    name="fedml_spurious",
    version=version(),
    description="Personalized federated learning that does not fall for spurious features, on FedML",
    author="The fedml_spurious authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["federated learning", "personalization", "spurious features", "robustness", "FedML"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.12",
    # Said explicitly, it makes an editable install a line in a .pth file. The import hook that
    # setuptools writes otherwise slows every Python start, and uv leaves its bytecode behind.
    package_dir={"": "."},
    packages=find_packages(include=["fedml_spurious*", "data_partition*", "fedml_configs"]),
    package_data={
        "fedml_configs": ["*.yaml"],
        "fedml_spurious": ["py.typed"],
        "fedml_spurious.report": ["templates/*"],
        "data_partition": ["py.typed"],
        "data_partition.celeba": ["group_counts/*.yaml"],
    },
    include_package_data=False,
    data_files=[("", ["fedml_spurious.pth"])],
    distclass=WithDataFiles,
    cmdclass={"install_data": InstallBesidePackages},
    install_requires=[
        *FEDML,
        "PyYAML",
        "click",
        "gdown",  # what torchvision fetches CelebA with
        "h5py>=3.5",  # reads without locking
        "jinja2",
        "loky",
        "matplotlib>=3.7",  # legends outside of the axes
        "pillow",
        "psutil",
        "pydantic>=2",
        "rich",
        "scikit-learn",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["fedml-spurious = fedml_spurious.cli:main"]},
)
