"""PostgreSQL: a process for each session, settings by reload, standbys."""

from __future__ import absolute_import

import os
import random
import signal

from support import driver, wait_until

from cluster.base import PATIENCE, Base

CLIENTS, ADMIN = "fault clients", "fault admin"
HBA = "host all locked all scram-sha-256\n"
AFTER_HBA = "host all all all trust\nhost replication all all trust\n"

TERMINATE = """
SELECT pid, pg_terminate_backend(pid), extract(epoch FROM clock_timestamp()) FROM (
    SELECT pid FROM pg_stat_activity WHERE application_name = '%s' AND %s ORDER BY random() LIMIT 1
) AS chosen"""


class Cluster(Base):
    usual = {
        "max_connections": 60,
        "listen_addresses": "'*'",
        "ssl": "on",
        "ssl_cert_file": "'../server.crt'",
        "ssl_key_file": "'../server.key'",
    }
    pid_file = "data/postmaster.pid"
    signals = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}
    at_once = "immediate"
    options = {"application_name": CLIENTS, "sslmode": "disable"}
    tls = {"sslmode": "require"}

    #: Conditions of terminate_one(). A session that was just opened is idle too, for the moment
    #: before its first statement.
    IDLE = "state = 'idle' AND state_change < clock_timestamp() - interval '5 ms'"
    ANY = "true"

    #: Settings that end idle sessions, and idle transactions; seconds after which those have ended.
    idle_timeout = {"idle_session_timeout": "1s"}
    idle_transaction_timeout = {"idle_in_transaction_session_timeout": "1s"}
    idle_transaction_seconds = 1.5

    @staticmethod
    def own_option(number):
        """OPTIONS that differ by the number, and change nothing else."""
        return {"keepalives_idle": 60 + number}

    def make_data(self):
        Base.make_data(self)
        path = os.path.join(self.folder, "data", "pg_hba.conf")
        with open(path) as rules:
            usual = rules.read()
        with open(path, "w") as rules:
            rules.write(HBA + usual + AFTER_HBA)

    @property
    def unix_socket(self):
        """The HOST by which clients ask for a Unix socket."""
        return self.folder

    def connect(self, **options):
        session = driver.connect(**dict(self.parameters, application_name=ADMIN, **options))
        session.autocommit = True
        return session

    def backends(self):
        """The pids of the server's processes that serve the clients."""
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY pid"
        return [pid for pid, in self.query(sql, CLIENTS)]

    def running(self, text):
        """The pids of the clients' sessions that run a statement with this text."""
        sql = (
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = %s AND state = 'active' AND query = %s"
        )
        return [pid for pid, in self.query(sql, CLIENTS, text)]

    def processes(self):
        """The pids of the processes without which nobody is served; the newest session's is last."""
        return [self.process.pid] + self.backends()

    def count_sessions(self):
        """How many sessions there are, with that of this question."""
        return self.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )

    def client_ports(self):
        sql = "SELECT client_port FROM pg_stat_activity WHERE application_name = %s"
        return [port for port, in self.query(sql, CLIENTS)]

    def terminate_one(self, condition):
        """Terminate a client's session, if there is one. Return its pid and when it was told."""
        rows = self.query(TERMINATE % (CLIENTS, condition))
        return (rows[0][0], float(rows[0][2])) if rows and rows[0][1] else None

    def has_ended(self, pid):
        return not os.path.exists("/proc/%d" % pid)

    def crash(self):
        """Kill a backend, so that the server ends all others. Return whether there was one."""
        watching = self.connect()
        try:
            os.kill(random.choice(self.backends()), signal.SIGKILL)
        except (IndexError, OSError):
            watching.close()
            return False
        self.wait_for_the_end_of(watching)
        self.wait_until_it_accepts()
        return True

    # Roles

    def create_role(self, name, password):
        """A user that the server lets in with a password only, and that has no privileges."""
        self.query("CREATE ROLE %s LOGIN PASSWORD '%s'" % (name, password))
        self.query("GRANT ALL ON ledger TO %s" % name)

    def change_password(self, name, password):
        self.query("ALTER ROLE %s PASSWORD '%s'" % (name, password))

    def drop_role(self, name):
        self.query("DROP OWNED BY %s" % name)
        self.query("DROP ROLE %s" % name)

    # Settings

    def reload(self, **settings):
        """Put settings into force for each session's next statement. None resets a setting."""
        before = self._loaded_at()
        for name, value in settings.items():
            action = "RESET %s" % name if value is None else "SET %s = '%s'" % (name, value)
            self.query("ALTER SYSTEM " + action)
        self.query("SELECT pg_reload_conf()")
        # The postmaster tells its backends before it lets another client in.
        assert wait_until(lambda: self._loaded_at() > before, PATIENCE)

    def _loaded_at(self):
        session = self.connect()
        try:
            cursor = session.cursor()
            cursor.execute("SELECT pg_conf_load_time()")
            return cursor.fetchone()[0]
        finally:
            session.close()

    def reset(self):
        """Undo what reload() did."""
        self.query("ALTER SYSTEM RESET ALL")
        self.query("SELECT pg_reload_conf()")

    # Standbys

    def standby(self):
        """A second cluster, a synchronous standby: without it this cluster commits nothing."""
        other = Cluster(self.host)
        other.prepare(lambda: other.copy(self))
        other.up()
        self.reload(synchronous_standby_names="*")
        return other

    def copy(self, primary):
        source = "-h %s -p %d -U %s" % (primary.host, primary.port, primary.user)
        self.call('"$bin/pg_basebackup" -D data -R -c fast ' + source)
        self.call('printf "%s\\n" "$settings" >>data/postgresql.conf')

    def promote(self):
        self.query("SELECT pg_promote()")
