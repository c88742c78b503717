"""PgBouncer and HAProxy between the clients and the server."""

from __future__ import absolute_import

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from functools import partial

from folder import free_port
from support import wait_until

from demo_project.private import detach, unprivileged_account

# Prints the program's pid, and waits for the end of its input, which comes however the tests end.
GUARD = r"""
trap '' INT PIPE
exec 2>/dev/null
log=$1; shift
"$@" </dev/null >>"$log" 2>&1 3>&- & pid=$!
echo $pid
read -r line
kill -KILL $pid
"""

PGBOUNCER = """
[databases]
* = host=%(host)s port=%(target)d user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %(port)d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 50
server_login_retry = 0.2
ignore_startup_parameters = extra_float_digits, options
"""

HAPROXY = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 1m
    timeout server 1m
listen database
    bind 127.0.0.1:%(port)d
    server only %(host)s:%(target)d
"""


def find_program(name):
    folders = os.environ.get("PATH", "").split(os.pathsep) + ["/usr/sbin", "/usr/local/sbin"]
    for path in [os.path.join(folder, name) for folder in folders]:
        if os.access(path, os.X_OK):
            return path
    return None


class Middleman(object):
    """A program that clients connect to instead of the server. It can be killed and restarted."""

    name, options, config = None, [], None
    host = "127.0.0.1"
    _shell = None

    def __init__(self, cluster):
        self._program = find_program(self.name)
        self._account = unprivileged_account()
        self._folder = tempfile.mkdtemp(prefix=self.name + "-")
        self._log = os.path.join(self._folder, "log")
        self.port = free_port()
        config = os.path.join(self._folder, "config")
        with open(config, "w") as text:
            text.write(
                self.config % {"host": cluster.host, "target": cluster.port, "port": self.port}
            )
        self._command = [self._program] + self.options + [config]
        if self._account:
            os.chown(self._folder, self._account.pw_uid, -1)

    def up(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "close_fds": True}
        command = ["sh", "-c", GUARD, "sh", self._log] + self._command
        leave = partial(detach, self._account)
        self._shell = subprocess.Popen(command, preexec_fn=leave, **pipes)
        self.pid = int(self._shell.stdout.readline())
        assert wait_until(self._accepts), open(self._log).read()

    def _accepts(self):
        try:
            socket.create_connection((self.host, self.port)).close()
        except (OSError, socket.error):
            return False
        return True

    def down(self, number=signal.SIGTERM):
        """End the program, and return when it is gone."""
        os.kill(self.pid, number)
        assert wait_until(lambda: not self._accepts()), open(self._log).read()
        self._end_shell()

    def _end_shell(self):
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.communicate(b"stop\n")

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *exception):
        self._end_shell()
        shutil.rmtree(self._folder, ignore_errors=True)


class PgBouncer(Middleman):
    name, config = "pgbouncer", PGBOUNCER


class HAProxy(Middleman):
    name, options, config = "haproxy", ["-db", "-f"], HAPROXY
