"""What pyproject.toml can't say: a wheel carries the shipped data, below the package as `medret_nb/shipped`."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("README.md", "phantom-small", "results", "runs", "tiny")  # of data/: what .gitignore lets in
MADE_ON_DEMAND = shutil.ignore_patterns("pixels-*", "embeddings", "views", "evaluation", "__pycache__", ".*")


class BuildWithData(build_py):
    "Builds the package, then puts the shipped data beside its modules (not for an editable installation)."

    def run(self):
        "Build, and copy."
        super().run()
        if not self.editable_mode:
            self.copy_data(Path(self.build_lib) / "medret_nb" / "shipped")

    def copy_data(self, target):
        "The shipped folders and files of data/, without caches."
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in SHIPPED:
            source = Path("data", name)
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=MADE_ON_DEMAND)
            else:
                shutil.copy2(source, target / name)


setup(cmdclass={"build_py": BuildWithData})
