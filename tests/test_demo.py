"""The demo, in a process of its own, as a user starts it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import databases
import pytest
import support
from databases import chosen

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MANAGE = os.path.join(ROOT, "demo_project", "manage.py")
SERVER_THREADS = 4
# PostgreSQL is the default.
PRIVATE = {"postgresql": [], "mariadb": ["--database", "mariadb"]}[databases.NAME]
SCHEME = {"postgresql": "postgres", "mariadb": "mysql"}[databases.NAME]


def start_demo(*arguments, **environment):
    """Start the demo on what DATABASE_URL names, or on a private server."""
    option = [] if "DATABASE_URL" in environment else PRIVATE
    command = [sys.executable, MANAGE, "demo"] + option + list(arguments)
    inherited = dict(
        item for item in os.environ.items() if item[0] not in ("DATABASE_URL", "PYTHONWARNINGS")
    )
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        preexec_fn=hear_ctrl_c,
        env=dict(inherited, **environment),
    )


def hear_ctrl_c():
    # Background jobs of a shell ignore SIGINT, and their children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_demo(*arguments, **environment):
    process = start_demo(*arguments, **environment)
    output, errors = support.finish(process)
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def server():
    with chosen.Server() as server:
        yield server


@pytest.fixture(scope="module")
def stranger(server):
    """A session of the demo's user on the demo's database, but not of the demo."""
    settings = {"HOST": server.host, "PORT": server.port, "USER": server.user}
    session = chosen.driver.connect(**chosen.parameters(dict(settings, NAME=server.database)))
    yield session
    session.close()


@pytest.fixture(scope="module")
def finished(server, stranger):
    code, output, errors = run_demo("--requests", "100", DATABASE_URL=server.url)
    assert code == 0, output + errors
    assert errors == ""
    return output


@pytest.fixture
def scratch():
    """A folder for temporary files, also of the account that runs the server for root."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o1777)
    yield folder
    shutil.rmtree(folder)


def column(output, mode, number):
    """The text in a column of a mode's row; the first is 0."""
    return re.search("^" + mode + "(.*)$", output, re.MULTILINE).group(1).split()[number]


def opened(output, mode):
    return int(column(output, mode, 3))


def left_behind(folder):
    """Files in the folder, and processes whose command lines name the folder."""
    processes = subprocess.check_output(
        ["ps", "-A", "-o", "args"], universal_newlines=True
    ).splitlines()
    return os.listdir(folder) + [line for line in processes if folder in line]


def test_the_demo_names_its_database(finished):
    name = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}[databases.NAME]
    assert re.match(r"Django \S+, Python \S+, {} \d+[\d.]*$".format(name), finished.splitlines()[0])


def test_stock_django_opens_a_connection_for_every_request(finished):
    assert opened(finished, "stock Django") == 100


def test_persistconn_opens_no_more_connections_than_there_are_threads(finished):
    assert opened(finished, "persistconn") <= SERVER_THREADS


@pytest.mark.parametrize("mode", ["stock Django", "persistconn"])
def test_the_server_counts_the_connections_that_django_opened(finished, mode):
    counted = column(finished, mode, 4)
    # PostgreSQL counts from version 14 on.
    assert counted == str(opened(finished, mode)) or (databases.NAME, counted) == (
        "postgresql",
        "-",
    )


def test_no_request_fails_after_its_connection_was_killed(finished):
    killed, failed = re.search(
        r"killed (\d+) backends between requests: \d+ requests, (\d+) failed", finished
    ).groups()
    assert int(killed) >= 20 and int(failed) == 0


def test_every_acknowledged_order_is_present(finished):
    acknowledged, present = re.search(
        r"orders: (\d+) acknowledged, (\d+) present", finished
    ).groups()
    assert acknowledged == present != "0"


def test_the_tables_of_the_demo_are_dropped(finished, server):
    assert tables(server) == []


def tables(server):
    session = chosen.connect(server, server.database)
    cursor = session.cursor()
    cursor.execute(
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_name LIKE 'persistconn_demo%'"
    )
    found = list(cursor.fetchall())
    session.close()
    return found


def test_the_demo_kills_no_session_but_its_own(finished, stranger):
    cursor = stranger.cursor()
    cursor.execute("SELECT 1")
    assert cursor.fetchone() == (1,)


def test_max_conns_holds_with_more_threads_than_connections(scratch):
    options = ("--requests", "200", "--threads", "12", "--max-conns", "3")
    code, output, errors = run_demo(*options, **{"TMPDIR": scratch})
    assert code == 0, errors
    assert opened(output, "persistconn") == 3
    assert column(output, "persistconn", 5) == "3"


def test_the_demo_reports_an_unreachable_database_in_one_line_and_exits_with_code_1():
    code, _, errors = run_demo(DATABASE_URL=SCHEME + "://nobody@127.0.0.1:1/nothing")
    assert_one_line("cannot reach the database", code, errors)


def test_the_demo_says_what_a_wrong_database_url_must_be():
    for wrong in ("oracle://nobody@127.0.0.1/nothing", SCHEME + "://127.0.0.1:port/nothing"):
        code, _, errors = run_demo(DATABASE_URL=wrong)
        assert_one_line("DATABASE_URL must be postgres://", code, errors)
        assert "mysql://" in errors


def test_the_demo_says_what_to_install_where_there_is_no_server(scratch):
    bin = {"postgresql": "PERSISTCONN_PG_BIN", "mariadb": "PERSISTCONN_MARIADB_BIN"}
    code, _, errors = run_demo(**{bin[databases.NAME]: scratch})
    assert_one_line("install", code, errors)


@support.only_on("mariadb", "The demo requires PostgreSQL's driver.")
def test_the_demo_says_what_to_install_where_there_is_no_driver(scratch):
    for name in ("MySQLdb", "pymysql"):
        with open(os.path.join(scratch, name + ".py"), "w") as module:
            module.write("raise ImportError")
    code, _, errors = run_demo(PYTHONPATH=os.pathsep.join([scratch, ROOT]))
    # A .pth file that installs PyMySQL as MySQLdb complains first.
    assert_one_line("pip install", code, errors.strip().splitlines()[-1])


def assert_one_line(text, code, errors):
    assert (code, len(errors.strip().splitlines())) == (1, 1), errors
    assert text in errors


def test_the_option_names_the_server_even_if_there_is_a_database_url():
    options = ("--requests", "20", "--database", databases.NAME)
    code, _, errors = run_demo(*options, **{"DATABASE_URL": "oracle://nobody@127.0.0.1/nothing"})
    assert code == 0, errors


def test_the_demo_leaves_no_process_and_no_file_behind_at_its_end(scratch):
    code, _, errors = run_demo("--requests", "20", TMPDIR=scratch)
    assert code == 0, errors
    assert left_behind(scratch) == []


def test_the_demo_leaves_no_process_and_no_file_behind_after_ctrl_c(scratch):
    process = start_demo("--requests", "100000", TMPDIR=scratch)
    assert process.stdout.readline().startswith("Django")
    process.send_signal(signal.SIGINT)
    _, errors = support.finish(process)
    assert process.returncode == 1 and "interrupted" in errors
    assert left_behind(scratch) == []
