"""A wheel holds analysis/, conf/ and sweeps/ inside the package; a checkout has them at its top."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithFolders(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in ("analysis", "conf", "sweeps"):
                inside = Path(self.build_lib) / "latentbench" / name
                skipped = shutil.ignore_patterns("__pycache__")
                shutil.copytree(name, inside, ignore=skipped, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithFolders})
