"""The folder of a PostgreSQL: its data, its certificate, and how its programs are run in it."""

from __future__ import absolute_import

import ctypes
import os
import random
import socket
import tempfile

from demo_project.postgres import NoPostgres, PrivatePostgres, find_binaries

CLONE_NEWNET = 0x40000000

# Waits for the end of its input, which comes however the tests end.
GUARD = r"""
trap '' INT PIPE
exec 2>/dev/null
read -r line
kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"
for turn in $(seq 200); do
    [ -e "$1/data/postmaster.pid" ] || break
    sleep 0.05
done
cd / && rm -rf "$1"
"""
SIGN = (
    "openssl req -new -x509 -nodes -days 2 -subj /CN=localhost -out server.crt -keyout server.key"
)
TLS = {"ssl": "on", "ssl_cert_file": "'../server.crt'", "ssl_key_file": "'../server.key'"}
HBA = "host all locked all scram-sha-256\n"
AFTER_HBA = "host all all all trust\nhost replication all all trust\n"


def free_port(host="127.0.0.1"):
    """A port that the kernel gives to nobody by itself, so that it stays free over a restart."""
    while True:
        port = random.SystemRandom().randrange(20000, 32768)
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return port
        except (OSError, socket.error):
            pass
        finally:
            probe.close()


class Folder(PrivatePostgres):
    def __init__(self, host, namespace, **settings):
        settings = dict({"max_connections": 60, "listen_addresses": "'*'"}, **settings)
        PrivatePostgres.__init__(self, **dict(TLS, **settings))
        self.host, self.namespace = host, namespace

    def prepare(self, make_data):
        """Make the folder with its data, and the guard that removes it."""
        self._owner = os.getpid()
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="pg-"))
        self.bin = self._usable(find_binaries(), self.folder)
        self.port = free_port()
        self._hand_over(self.folder)
        self._shell = self._run(["sh", "-c", GUARD, "sh", self.folder], "/")
        try:
            self.call("sh", "-c", "umask 077 && %s 2>/dev/null" % SIGN)
            make_data()
            self._write("postgresql.conf", "%s\nport = %d\n" % (self._config(), self.port))
        except BaseException:
            self.stop()
            raise

    def _config(self):
        return self._configuration(self.folder)

    def initdb(self):
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        self.call(os.path.join(self.bin, "initdb"), "-D", "data", *options)
        path = os.path.join(self.folder, "data", "pg_hba.conf")
        with open(path) as rules:
            usual = rules.read()
        with open(path, "w") as rules:
            rules.write(HBA + usual + AFTER_HBA)

    def _write(self, name, text):
        with open(os.path.join(self.folder, "data", name), "a") as config:
            config.write(text)

    def call(self, *command):
        """Run a program with the server's account, in its folder."""
        process = self._run(list(command), self.folder)
        output = process.communicate()[0]
        if process.returncode != 0:
            raise NoPostgres("%s: %s" % (" ".join(command), output.decode("utf-8", "replace")))

    def _detach(self):
        if self.namespace:
            with open("/var/run/netns/" + self.namespace.name) as door:
                if ctypes.CDLL(None).setns(door.fileno(), CLONE_NEWNET):
                    os._exit(1)
        PrivatePostgres._detach(self)
