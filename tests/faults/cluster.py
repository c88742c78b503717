"""A PostgreSQL that can be stopped, killed, reloaded, replicated and asked."""

from __future__ import absolute_import

import os
import signal

from folder import Folder
from support import driver, wait_until

from demo_project.postgres import PrivatePostgres

CLIENTS, ADMIN = "fault clients", "fault admin"
PATIENCE = 30
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}


class Cluster(Folder):
    """A cluster from initdb to the removal of its folder; meanwhile its server comes and goes."""

    process = None
    _admin = None

    def __init__(self, host="127.0.0.1", namespace=None, **settings):
        Folder.__init__(self, host, namespace, **settings)

    def start(self):
        self.prepare(self.initdb)
        self.up()
        return self

    def up(self):
        """Start the server, and return when it accepts connections."""
        self.launch()
        self.wait_until_it_accepts()

    def wait_until_it_accepts(self):
        assert wait_until(self._accepts, PATIENCE), self.log()

    def launch(self):
        serve = 'exec "$0" -D data >>log 2>&1 </dev/null'
        self.process = self._run(
            ["sh", "-c", serve, os.path.join(self.bin, "postgres")], self.folder
        )

    def _accepts(self):
        if self.process.poll() is not None:
            # After a kill -9 the server does not start before the last of the old backends has
            # gone.
            self.launch()
        try:
            self.connect(connect_timeout=5).close()
        except driver.Error:
            return False
        return True

    def down(self, mode="fast"):
        """Stop the server, and return when it is gone."""
        self.process.send_signal(SIGNALS[mode])
        assert wait_until(lambda: self.process.poll() is not None, PATIENCE), self.log()

    def ensure_it_is_up(self):
        """Start the server if a failed test has left it stopped."""
        if self.process.poll() is not None:
            self.up()

    def restart(self, mode="fast"):
        self.down(mode)
        self.up()

    def stop(self):
        """Stop the server; the guard then removes the folder."""
        self.forget_admin()
        if self.process is not None and self.process.poll() is None:
            self.down("immediate")
        PrivatePostgres.stop(self)

    def log(self):
        with open(os.path.join(self.folder, "log")) as log:
            return log.read()[-3000:]

    # Questions and orders

    def connect(self, **options):
        return driver.connect(**dict(self.parameters, application_name=ADMIN, **options))

    def wait_for_the_end_of(self, session):
        def has_ended():
            try:
                session.cursor().execute("SELECT 1")
            except driver.Error:
                return True
            return False

        assert wait_until(has_ended, PATIENCE)
        session.close()

    def query(self, sql, *parameters):
        for last in (False, True):
            try:
                return self._query(sql, parameters)
            except driver.Error:
                self.forget_admin()
                if last:
                    raise

    def _query(self, sql, parameters):
        if self._admin is None:
            self._admin = self.connect()
            self._admin.autocommit = True
        cursor = self._admin.cursor()
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def ask(self, sql, *parameters):
        return self.query(sql, *parameters)[0][0]

    def forget_admin(self):
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def backends(self):
        """The pids of the server's processes that serve the clients."""
        sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY pid"
        return [pid for pid, in self.query(sql, CLIENTS)]

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

    def standby(self):
        """A second cluster, a synchronous standby: without it this cluster commits nothing."""
        other = Cluster(self.host)
        source = ["-h", self.host, "-p", str(self.port), "-U", self.user]
        copy = [os.path.join(self.bin, "pg_basebackup"), "-D", "data", "-R", "-c", "fast"]
        other.prepare(lambda: other.call(*(copy + source)))
        other.up()
        self.reload(synchronous_standby_names="*")
        return other

    def promote(self):
        self.query("SELECT pg_promote()")
