"""A private PostgreSQL that logs how its clients leave, stopped at the end of the run."""

from __future__ import absolute_import

import os
import pwd
import shutil
import subprocess
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE), os.path.dirname(os.path.dirname(HERE))]

import support  # noqa: E402

from demo_project.postgres import NoPostgres, PrivatePostgres  # noqa: E402

SIGN = "openssl req -new -x509 -nodes -days 2 -subj /CN=localhost -out %s -keyout %s"


def make_certificate(folder):
    """PostgreSQL's settings for TLS, or none where there is no openssl."""
    files = [os.path.join(folder, name) for name in ("server.crt", "server.key")]
    with open(os.devnull, "w") as null:
        try:
            subprocess.check_call((SIGN % tuple(files)).split(), stdout=null, stderr=null)
        except (OSError, subprocess.CalledProcessError):
            return {}
    os.chmod(folder, 0o755)
    if os.geteuid() == 0:
        for path in files:
            os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    os.chmod(files[1], 0o600)
    return {"ssl": "on", "ssl_cert_file": repr(files[0]), "ssl_key_file": repr(files[1])}


def start_postgres(**settings):
    # At this level the log tells a client that closed its session in order from one that vanished.
    return PrivatePostgres(log_min_messages="debug1", **settings).start()


def pytest_addoption(parser):
    parser.addoption("--storm", type=int, default=300, help="requests of each storm")
    parser.addoption("--cancelled", type=int, default=300, help="requests whose clients go away")
    parser.addoption("--stock", action="store_true", help="the storm on Django without persistconn")


def pytest_configure(config):
    config.keys_folder = tempfile.mkdtemp()
    tls = make_certificate(config.keys_folder)
    try:
        try:
            support.server = start_postgres(**tls)
        except NoPostgres:
            # Some PostgreSQLs are built without TLS.
            support.server = start_postgres()
    except NoPostgres as error:
        shutil.rmtree(config.keys_folder)
        pytest.exit("These tests need a PostgreSQL: %s" % error)
    support.ask("CREATE DATABASE %s" % support.DATABASE)


def pytest_unconfigure(config):
    support.server.stop()
    shutil.rmtree(config.keys_folder)


def pytest_report_header(config):
    import django

    driver = support.driver
    words = (django.get_version(), driver.__name__, driver.__version__)
    return "Django %s, %s %s" % words
