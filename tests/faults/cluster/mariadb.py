"""MariaDB: a thread for each session, settings for new sessions, clients known by their user."""

from __future__ import absolute_import

import os
import signal
import time

from support import driver

from cluster.base import Base

#: The user of the tests' own sessions; users of sessions that are nobody's, or not yet a client's.
ADMIN = "admin"
OTHERS = (ADMIN, "system user", "event_scheduler", "unauthenticated user")

# The server's root comes from this machine's addresses only, not out of a namespace. While its data
# is made, a server knows of users only after FLUSH PRIVILEGES.
USERS = """
FLUSH PRIVILEGES;
CREATE DATABASE faults;
CREATE USER clients@'%%';
GRANT ALL ON *.* TO clients@'%%';
CREATE USER %(admin)s@'%%';
GRANT ALL ON *.* TO %(admin)s@'%%' WITH GRANT OPTION;
"""

SESSIONS = "SELECT %s FROM information_schema.processlist WHERE user NOT IN %s"


# PyMySQL would use TLS wherever the server has it, and then compare names.
IS_PYMYSQL = driver.__name__ == "pymysql"


class Cluster(Base):
    options = {"ssl_disabled": True} if IS_PYMYSQL else {}
    user, database = "clients", "faults"
    usual = {
        "max_connections": 60,
        # Commits must outlive a kill -9 of the server, but not a crash of the machine.
        "innodb_flush_log_at_trx_commit": 2,
        "skip_name_resolve": "ON",
        "ssl_cert": "../server.crt",
        "ssl_key": "../server.key",
    }
    pid_file = "pid"
    signals = {"fast": signal.SIGTERM, "kill": signal.SIGKILL}
    at_once = "kill"

    #: Conditions of terminate_one(). A session sleeps for some milliseconds in its transaction too,
    #: and nothing tells so at once: innodb_trx may be 0.1 s old.
    IDLE = "command = 'Sleep' AND time_ms > 25"
    ANY = "true"

    #: Settings that end idle sessions, and idle transactions; seconds after which those have ended.
    idle_timeout = {"wait_timeout": 1}
    idle_transaction_timeout = {"idle_transaction_timeout": 1}
    idle_transaction_seconds = 1.5

    _changed = ()

    @staticmethod
    def own_option(number):
        """OPTIONS that differ by the number, and change nothing else."""
        return {"connect_timeout": 60 + number}

    def make_data(self):
        with open(os.path.join(self.folder, "users.sql"), "w") as users:
            users.write(USERS % {"admin": ADMIN})
        self.call(self.life["make"] + ' --extra-file="$folder/users.sql"')

    @property
    def tls(self):
        ssl = {"ca": os.path.join(self.folder, "server.crt")}
        if IS_PYMYSQL:
            return {"ssl": dict(ssl, check_hostname=False), "ssl_disabled": False}
        return {"ssl": ssl}

    @property
    def unix_socket(self):
        """The HOST by which clients ask for a Unix socket."""
        return os.path.join(self.folder, "socket")

    def connect(self, **options):
        mine = dict(self.parameters, user=ADMIN, db=self.database, **options)
        session = driver.connect(**mine)
        session.autocommit(True)
        return session

    def backends(self):
        """The ids of the clients' sessions."""
        return [pid for pid, in self.query(SESSIONS % ("id", OTHERS) + " ORDER BY id")]

    def running(self, text):
        """The ids of the clients' sessions that run a statement with this text."""
        sql = SESSIONS % ("id", OTHERS) + " AND info = %s"
        return [pid for pid, in self.query(sql, text)]

    def processes(self):
        """The pids of the processes without which nobody is served."""
        return [self.process.pid]

    def count_sessions(self):
        """How many sessions there are, with that of this question."""
        return self.ask(SESSIONS % ("count(*)", OTHERS[1:3]))

    def client_ports(self):
        hosts = self.query(SESSIONS % ("host", OTHERS))
        return [int(host.rsplit(":", 1)[1]) for host, in hosts]

    def terminate_one(self, condition):
        """Terminate a client's session, if there is one. Return its id and when it was told."""
        choose = SESSIONS % ("id", OTHERS) + " AND %s ORDER BY rand() LIMIT 1" % condition
        for (pid,) in self.query(choose):
            told = time.time()
            try:
                self.query("KILL %d" % pid)
            except driver.Error:
                return None  # it has ended by itself
            return pid, told
        return None

    def has_ended(self, pid):
        return not self.query("SELECT 1 FROM information_schema.processlist WHERE id = %s", pid)

    def crash(self):
        """Kill the server, and start it. Return whether that was possible."""
        self.restart("kill")
        return True

    # Roles

    def create_role(self, name, password):
        """A user that the server lets in with a password only, and that has no privileges."""
        self.query("CREATE USER %s@'%%' IDENTIFIED BY '%s'" % (name, password))
        self.query("GRANT ALL ON %s.* TO %s@'%%'" % (self.database, name))

    def change_password(self, name, password):
        self.query("ALTER USER %s@'%%' IDENTIFIED BY '%s'" % (name, password))

    def drop_role(self, name):
        self.query("DROP USER %s@'%%'" % name)

    # Settings

    def reload(self, **settings):
        """Put settings into force for new sessions. None resets a setting."""
        for name, value in settings.items():
            self.query("SET GLOBAL %s = %s" % (name, "DEFAULT" if value is None else value))
            self._changed += (name,)

    def reset(self):
        """Undo what reload() did."""
        self.reload(**dict.fromkeys(self._changed))
        self._changed = ()
