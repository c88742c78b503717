"""The servers, over TCP with TLS: PostgreSQL with PgBouncer in front of it, and MariaDB. Latency in
between."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parents[1]))

from demo_project.mariadb import PrivateMariaDB  # noqa: E402
from demo_project.postgres import PrivatePostgres  # noqa: E402

NAME = USER = "bench"
PASSWORD = "a password that SCRAM hashes 4096 times"

HBA = f"""
host all postgres 127.0.0.1/32 trust
hostssl {NAME} {USER} 127.0.0.1/32 scram-sha-256
"""
SCHEMA = f"""
CREATE TABLE measured_good (id serial PRIMARY KEY, name varchar(50) NOT NULL, sold int NOT NULL);
INSERT INTO measured_good (name, sold) SELECT 'good ' || n, 0 FROM generate_series(1, 1000) n;
ALTER TABLE measured_good OWNER TO {USER};
VACUUM ANALYZE measured_good;
"""
MARIADB_SCHEMA = f"""
CREATE DATABASE {NAME};
CREATE USER {USER} IDENTIFIED BY '{PASSWORD}', crowd IDENTIFIED BY '{PASSWORD}' REQUIRE SSL;
GRANT ALL ON {NAME}.* TO {USER}, crowd;
USE {NAME};
CREATE TABLE measured_good (
    id int AUTO_INCREMENT PRIMARY KEY, name varchar(50) NOT NULL, sold int NOT NULL
) ENGINE=InnoDB;
INSERT INTO measured_good (name, sold) SELECT concat('good ', seq), 0 FROM seq_1_to_1000;
ANALYZE TABLE measured_good;
"""
PGBOUNCER = f"""
[databases]
{NAME} = host=127.0.0.1 port={{server_port}}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {{port}}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {{folder}}/users.txt
pool_mode = transaction
default_pool_size = 20
max_client_conn = 500
client_tls_sslmode = require
client_tls_cert_file = {{folder}}/server.crt
client_tls_key_file = {{folder}}/server.key
server_tls_sslmode = require
"""
SIGN = (
    "openssl req -new -x509 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    " -out server.crt -keyout server.key"
)


class Server:
    """A private server. The `with` block ends it, and whatever was put in front of it."""

    #: Django's ENGINE.
    engine = None

    @property
    def options(self):
        """The OPTIONS that make Django ask for TLS."""
        raise NotImplementedError

    def _private(self):
        """Return the server, not yet started. Its files may be written into the folder."""
        raise NotImplementedError

    def _create(self):
        """Create the database, its user and its table."""
        raise NotImplementedError

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="bench-")).resolve()
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            subprocess.run(SIGN.split(), cwd=self.folder, check=True, capture_output=True)
            private = self._private()
            self._hand_over()
            self.server = stack.enter_context(private)
            self._create()
            self._ports = {0: self.server.port}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def _hand_over(self):
        """Let the account that runs the servers for root, and nobody else, read the folder."""
        for path in [self.folder, *self.folder.iterdir()]:
            path.chmod(0o700 if path.is_dir() else 0o600)
            if os.geteuid() == 0:
                os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)

    def at(self, seconds):
        """The port at which the server is a round trip of ``seconds`` away."""
        if seconds not in self._ports:
            self._ports[seconds] = self._start_proxy(seconds)
        return self._ports[seconds]

    def _start_proxy(self, seconds):
        command = [sys.executable, HERE / "proxy.py", str(self.server.port), str(seconds)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._stack.callback(process.communicate)
        return int(process.stdout.readline())


class PostgreSQL(Server):
    engine, options = "django.db.backends.postgresql", {"sslmode": "require"}

    def __init__(self):
        self._pgbouncers = {}

    def _private(self):
        (self.folder / "hba.conf").write_text(HBA)
        (self.folder / "users.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
        crt, key, hba = (
            f"'{self.folder}/{name}'" for name in ("server.crt", "server.key", "hba.conf")
        )
        tls = {"ssl": "on", "ssl_cert_file": crt, "ssl_key_file": key}
        return PrivatePostgres(**tls, hba_file=hba, max_connections=1000)

    def _create(self):
        role = f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_stats"
        self._sql("postgres", role, f"CREATE DATABASE {NAME} OWNER {USER}")
        self._sql(NAME, *filter(str.strip, SCHEMA.split(";")))

    def _sql(self, database, *statements):
        psql = shutil.which("psql") or "psql"
        where = ["-h", "127.0.0.1", "-p", str(self.server.port), "-U", "postgres", "-d", database]
        for statement in statements:
            subprocess.run([psql, "-q", *where, "-c", statement], check=True)

    def through_pgbouncer(self, seconds):
        """The port of a PgBouncer near its clients, with the server ``seconds`` away from it."""
        if seconds not in self._pgbouncers:
            self._pgbouncers[seconds] = self._start_pgbouncer(self.at(seconds))
        return self._pgbouncers[seconds]

    def _start_pgbouncer(self, server_port):
        program = shutil.which("pgbouncer", path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
        if program is None:
            raise FileNotFoundError("pgbouncer is not installed")
        port, account = free_port(), ["-u", "nobody"] if os.geteuid() == 0 else []
        configuration = self.folder / f"pgbouncer-{port}.ini"
        values = {"folder": self.folder, "port": port, "server_port": server_port}
        configuration.write_text(PGBOUNCER.format(**values))
        self._hand_over()
        command = [program, "-q", *account, configuration]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self._stack.callback(end, process)
        wait_for(port)
        return port


class MariaDB(Server):
    engine = "django.db.backends.mysql"

    @property
    def options(self):
        return {"ssl": {"ca": str(self.folder / "server.crt")}}

    def _private(self):
        crt, key = self.folder / "server.crt", self.folder / "server.key"
        return PrivateMariaDB(ssl_cert=crt, ssl_key=key, character_set_server="utf8mb4")

    def _create(self):
        where = ["-h", "127.0.0.1", "-P", str(self.server.port), "-u", self.server.user]
        sql = ["mariadb", "--no-defaults", *where, "--skip-ssl"]
        subprocess.run(sql, input=MARIADB_SCHEMA, text=True, check=True, stdout=subprocess.DEVNULL)


SERVERS = {"PostgreSQL": PostgreSQL, "MariaDB": MariaDB}


def end(process):
    process.terminate()
    process.wait()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(port, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
