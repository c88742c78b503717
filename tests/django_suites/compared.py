"""Django's own tests of one version, run without persistconn and with it, and compared."""

import functools
import json
import shutil
import subprocess
from pathlib import Path

import cells
import suites

HERE = Path(__file__).parent
STOCK_RESULTS = HERE / "stock_results.json"


class DjangoSuite:
    """The tests of one Django with one driver, in an environment of their own.

    ``call`` is nox's ``session.run``, ``python`` the environment's, ``cache`` a folder of downloads,
    and ``postgres_bin`` has the programs of a PostgreSQL. ``through`` names a pooler in between.
    """

    def __init__(self, call, name, labels, python, cache, postgres_bin, through=None):
        self._call = functools.partial(call, external=True)
        self.python, self.cache, self.postgres_bin = python, cache, postgres_bin
        self.name, self.labels = name, labels
        self.through, self.kind = through, f"{labels}, {through}" if through else labels
        self.key = f"{name}, {self.kind}"
        self.folder = python.parent.parent.parent
        self.sdist = self._sdist()

    def _sdist(self):
        show = "import django; print(django.get_version())"
        version = self._call(self.python, "-c", show, silent=True).strip()
        folder = self.cache / version
        if not folder.exists():
            pip = [self.python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            asked = ["--no-deps", "--no-binary=Django", f"Django=={version}"]
            self._call(*pip, *asked, f"--dest={self.cache}", silent=True)
            (archive,) = self.cache.glob(f"[Dd]jango-{version}.tar.gz")
            shutil.unpack_archive(archive, folder)
        (sdist,) = folder.iterdir()
        return sdist

    def run(self, title, *args):
        """Run the tests. Return the results; {}: they did not end; None: persistconn cannot yet."""
        path = self.folder / f"{title}, {self.kind}.json"
        path.unlink(missing_ok=True)
        command = [self.python, HERE / "run.py", self.sdist, path]
        with open(path.with_suffix(".log"), "w") as log:
            to_log = {"stdout": log, "stderr": subprocess.STDOUT, "success_codes": range(-64, 256)}
            env = {"PERSISTCONN_PG_BIN": self.postgres_bin}
            options = [f"--database={cells.database(self.name)}", f"--labels={self.labels}"]
            options += [f"--through={self.through}"] if self.through else []
            self._call(*command, *options, *args, env=env, **to_log)
        return json.loads(path.read_text()) if path.exists() else {}

    @functools.cached_property
    def measured_stock(self):
        return self.run("stock", "--stock")

    def stock(self, results):
        """The results without persistconn: those kept, if they are of the same versions."""
        kept = json.loads(STOCK_RESULTS.read_text()).get(self.key)
        if kept and results and comparable(kept["versions"]) == comparable(results["versions"]):
            return kept
        return self.measured_stock

    def keep_stock(self):
        kept = json.loads(STOCK_RESULTS.read_text())
        kept[self.key] = {name: self.measured_stock[name] for name in suites.KEPT}
        STOCK_RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")

    def compare(self, stock, results):
        """Return a line for the summary, and what is wrong."""
        if not stock or not results:
            return "", [f"the tests did not run to their end, see {self.folder}/*.log"]
        before, after = ({*r["failures"], *r["errors"]} for r in (stock, results))
        excused = {test for cell, test in suites.ONLY_STOCK if cell == self.name}
        wrong = [f"new failure: {test}" for test in sorted(after - before - excused)]
        line = f"{results['run']} run, {len(before)} failed in stock, {len(after)} here"
        line += f", {len(wrong)} new; {results['stats']}"
        if results["run"] < stock["run"]:
            wrong.append(f"only {results['run']} tests ran, in stock {stock['run']}")
        if not results["kept"] or not results["stats"]["reused"]:
            wrong.append("after the tests no connection was kept from one request to the next")
        return line, wrong


def comparable(versions):
    """Django's tests differ from patch to patch, and hardly with that of anything else."""
    minors = {name: version.rpartition(".")[0] for name, version in versions.items()}
    return {**minors, "Django": versions["Django"]}
