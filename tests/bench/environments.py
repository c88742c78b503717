"""The Python environments of the measured processes, built with virtualenv and kept."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import contenders

ROOT = Path(__file__).resolve().parents[2]


class Environment:
    """One Python with one Django and one driver. ``failures``: pip's errors, by requirement."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder / name.replace(" ", "-").replace(",", "")
        self.python = self.folder / "bin" / "python"
        self.failures = {}

    def build(self, requirements, optional):
        wanted = [requirements, optional]
        kept = self.folder / "requirements.json"
        if not kept.exists() or json.loads(kept.read_text())[:2] != wanted:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._create()
            self._pip(*requirements)
            for requirement in optional:
                self._install_peer(requirement)
            kept.write_text(json.dumps([*wanted, self.failures]))
        self.failures = json.loads(kept.read_text())[2]
        return self

    def _create(self):
        # virtualenv may have found newer wheels meanwhile, which old Pythons cannot run.
        seeds = [f"--{seed}=embed" for seed in ("pip", "setuptools", "wheel")]
        python = f"--python=python{contenders.PYTHONS[self.name]}"
        run = [sys.executable, "-m", "virtualenv", "--quiet", *seeds, python, self.folder]
        subprocess.run(run, check=True)

    def _install_peer(self, requirement):
        # django-db-pool asks for psycopg2, which has no wheel: the binary package has the same
        # module.
        without = ["--no-deps"] if requirement == "django-db-pool" else []
        try:
            self._pip(*without, requirement)
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if "ERROR" in line]
            self.failures[requirement] = (lines or error.stderr.splitlines() or ["pip failed"])[-1]

    def _pip(self, *arguments):
        pip = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *arguments], check=True, capture_output=True, text=True)

    def failure(self, requirements):
        return next((self.failures[name] for name in requirements if name in self.failures), None)


def build(names, folder, with_peers=True):
    """Return the environments by name."""
    return {
        name: Environment(name, folder).build(
            contenders.REQUIREMENTS[name], peers(name) if with_peers else []
        )
        for name in names
    }


def peers(name):
    """The requirements of only some contenders."""
    optional = {each for contender in contenders.of(name) for each in contender.requires}
    return sorted(optional.union(filter(None, contenders.BARE_POOLS.get(name, {}).values())))


def snapshot(folder):
    """A copy of the package as it is now, so that an edit does not change what is measured."""
    target = folder / "package"
    shutil.rmtree(target, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.pyc", "__pycache__")
    shutil.copytree(ROOT / "persistconn", target / "persistconn", ignore=ignored)
    return target
