"""The demo, in a process of its own, as a user starts it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from demo_project.postgres import PrivatePostgres  # noqa: E402

SERVER_THREADS = 4


def start_demo(*arguments, **environment):
    command = [sys.executable, os.path.join(ROOT, "demo_project", "manage.py"), "demo"] + list(
        arguments
    )
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
    output, errors = process.communicate()
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def postgres():
    with PrivatePostgres() as server:
        yield server


@pytest.fixture(scope="module")
def finished(postgres):
    code, output, errors = run_demo("--requests", "100", DATABASE_URL=postgres.url)
    assert code == 0, output + errors
    return output


@pytest.fixture
def scratch():
    """A folder for temporary files, also of the account that runs PostgreSQL for root."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o1777)
    yield folder
    shutil.rmtree(folder)


def opened(output, mode):
    return int(re.search(r"^{} +\S+ +\S+ +\S+ +(\d+)".format(mode), output, re.MULTILINE).group(1))


def left_behind(folder):
    """Files in the folder, and processes whose command lines name the folder."""
    processes = subprocess.check_output(
        ["ps", "-A", "-o", "args"], universal_newlines=True
    ).splitlines()
    return os.listdir(folder) + [line for line in processes if folder in line]


def test_stock_django_opens_a_connection_for_every_request(finished):
    assert opened(finished, "stock Django") == 100


def test_persistconn_opens_no_more_connections_than_there_are_threads(finished):
    assert opened(finished, "persistconn") <= SERVER_THREADS


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


def test_the_tables_of_the_demo_are_dropped(finished, postgres):
    assert tables(postgres) == []


def tables(postgres):
    psycopg = pytest.importorskip("psycopg2")
    connection = psycopg.connect(**postgres.parameters)
    cursor = connection.cursor()
    cursor.execute("SELECT relname FROM pg_class WHERE relname LIKE 'persistconn_demo%'")
    found = cursor.fetchall()
    connection.close()
    return found


def test_max_conns_holds_with_more_threads_than_connections(scratch):
    options = ("--requests", "200", "--threads", "12", "--max-conns", "3")
    code, output, errors = run_demo(*options, **{"TMPDIR": scratch})
    assert code == 0, errors
    assert opened(output, "persistconn") == 3
    assert re.search(r"^persistconn .* (\d+)$", output, re.MULTILINE).group(1) == "3"


def test_the_demo_reports_an_unreachable_database_in_one_line_and_exits_with_code_1():
    code, _, errors = run_demo(DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing")
    lines = errors.strip().splitlines()
    assert (code, len(lines)) == (1, 1), errors
    assert "cannot reach the database" in lines[0]


def test_the_demo_leaves_no_process_and_no_file_behind_at_its_end(scratch):
    code, _, errors = run_demo("--requests", "20", TMPDIR=scratch)
    assert code == 0, errors
    assert left_behind(scratch) == []


def test_the_demo_leaves_no_process_and_no_file_behind_after_ctrl_c(scratch):
    process = start_demo("--requests", "100000", TMPDIR=scratch)
    assert process.stdout.readline().startswith("Django")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 1 and "interrupted" in errors
    assert left_behind(scratch) == []
