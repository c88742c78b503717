"""PgBouncer, Pgpool-II and HAProxy between the clients and the server."""

from __future__ import absolute_import

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from functools import partial

from basics import find_program, free_port, wait_until

from demo_project.private import detach, unprivileged_account

# Prints the program's pid, and waits for the end of its input, which comes however the tests end.
# Then it sends the signal, and kills what is left of the program and its children after 5 seconds.
GUARD = r"""
trap '' INT PIPE
exec 2>/dev/null
log=$1 signal=$2; shift 2
"$@" </dev/null >>"$log" 2>&1 3>&- & pid=$!
echo $pid
read -r line
(sleep 5; kill -KILL 0) >/dev/null &
kill -"$signal" $pid && wait $pid
kill -KILL 0
"""


class Middleman(object):
    """A program that clients connect to instead of the server. It can be killed and restarted.

    ``targets``: the servers behind it, the primary first. Settings given by name go into its
    configuration.
    """

    name, options, usual = None, [], {}
    host = "127.0.0.1"
    #: The signal that ends it and all its children, without waiting for clients.
    at_once = "KILL"
    _shell = None

    def __init__(self, *targets, **settings):
        self.targets, self.settings = list(targets), dict(self.usual, **settings)
        self._account = unprivileged_account()
        self.folder = tempfile.mkdtemp(prefix=self.name + "-")
        self._log = os.path.join(self.folder, "log")
        self.port = free_port()
        if self._account:
            os.chown(self.folder, self._account.pw_uid, -1)
        self.configure()
        self._command = [find_program(self.name)] + self.options + [self.path("config")]

    def path(self, name):
        """The path of a file in its folder."""
        return os.path.join(self.folder, name)

    def configure(self):
        """Write its configuration anew."""
        with open(self.path("config"), "w") as config:
            config.write(self.text())

    def text(self):
        """The text of its configuration."""
        raise NotImplementedError

    def up(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "close_fds": True}
        command = ["sh", "-c", GUARD, "sh", self._log, self.at_once] + self._command
        leave = partial(detach, self._account)
        self._shell = subprocess.Popen(command, preexec_fn=leave, cwd=self.folder, **pipes)
        self.pid = int(self._shell.stdout.readline())
        assert wait_until(self._accepts), self.log()

    def log(self):
        with open(self._log) as log:
            return log.read()[-3000:]

    def _accepts(self):
        try:
            socket.create_connection((self.host, self.port)).close()
        except (OSError, socket.error):
            return False
        return True

    def down(self, number=signal.SIGTERM):
        """End the program, and return when it is gone."""
        os.kill(self.pid, number)
        self.wait_for_its_end()

    def wait_for_its_end(self):
        assert wait_until(lambda: not self._accepts()), self.log()
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
        shutil.rmtree(self.folder, ignore_errors=True)


class PgBouncer(Middleman):
    """In front of one server; ``database`` has more words for its line of [databases]."""

    name = "pgbouncer"
    usual = {
        "auth_type": "any",
        "admin_users": "postgres",
        "pool_mode": "transaction",
        "default_pool_size": 50,
        "server_login_retry": 0.2,
        "ignore_startup_parameters": "extra_float_digits, options",
    }
    database = "user=postgres"

    def __init__(self, server, database=None, **settings):
        if database is not None:
            self.database = database
        Middleman.__init__(self, server, **settings)

    def text(self):
        where = {"listen_addr": self.host, "listen_port": self.port, "unix_socket_dir": ""}
        lines = ["[databases]", "* = host=%s port=%d %s" % self._target(), "[pgbouncer]"]
        return "\n".join(
            lines + ["%s = %s" % pair for pair in dict(self.settings, **where).items()]
        )

    def _target(self):
        return self.targets[0].host, self.targets[0].port, self.database


def pgbouncer_version():
    """(1, 18) for PgBouncer 1.18.0, or () if it is not installed."""
    program = find_program("pgbouncer")
    if program is None:
        return ()
    said = subprocess.check_output([program, "--version"]).decode()
    return tuple(map(int, said.split()[1].split(".")[:2]))


class Pgpool(Middleman):
    """In front of a primary and its standbys. ``weights`` share the SELECTs out among them."""

    name = "pgpool"
    # Without -D a restart would remember a server that was away.
    options = ["-n", "-D", "-a", "hba", "-F", "pcp", "-f"]
    at_once = "INT"
    usual = {
        "backend_clustering_mode": "'streaming_replication'",
        "num_init_children": 8,
        "max_pool": 2,
        "connection_cache": "on",
        "load_balance_mode": "off",
        "sr_check_user": "'postgres'",
        "sr_check_period": 1,
        "failover_on_backend_error": "off",
        "pcp_listen_addresses": "''",
    }

    def __init__(self, *targets, **settings):
        self.weights = settings.pop("weights", [1] * len(targets))
        Middleman.__init__(self, *targets, **settings)

    def text(self):
        folder = repr(self.folder)
        own = {"listen_addresses": "'127.0.0.1'", "port": self.port, "pcp_port": free_port()}
        own.update(socket_dir=folder, pcp_socket_dir=folder, logdir=folder)
        own["pid_file_name"] = repr(self.path("pid"))
        for number, target in enumerate(self.targets):
            server = {"hostname": repr(target.host), "port": target.port}
            server.update(weight=self.weights[number], flag="'DISALLOW_TO_FAILOVER'")
            own.update(("backend_%s%d" % (key, number), server[key]) for key in server)
        return "\n".join("%s = %s" % pair for pair in dict(self.settings, **own).items())


HAPROXY = """
global
    stats socket %(socket)s mode 600 level admin
defaults
    mode tcp
    timeout connect 2s
    timeout client %(client)s
    timeout server %(server)s
listen database
    bind 127.0.0.1:%(port)d
"""


class HAProxy(Middleman):
    """In front of servers of which the first is used, until an order chooses another."""

    name, options = "haproxy", ["-db", "-f"]
    usual = {"client": "1m", "server": "1m"}

    def text(self):
        values = dict(self.settings, port=self.port, socket=self.path("admin"))
        lines = [
            "    server s%d %s:%d%s"
            % (number, target.host, target.port, " disabled" * bool(number))
            for number, target in enumerate(self.targets)
        ]
        return HAPROXY % values + "\n".join(lines) + "\n"

    def order(self, command):
        """Give an order to its admin socket. Return the answer."""
        admin = socket.socket(socket.AF_UNIX)
        try:
            admin.connect(self.path("admin"))
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(4096), b"")).decode()
        finally:
            admin.close()

    def sessions(self):
        """How many clients' sessions it carries."""
        return self.order("show sess").count(" fe=database ")
