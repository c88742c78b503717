"""A server that can be stopped, killed, reloaded and asked, whichever database it is."""

from __future__ import absolute_import

import os

from databases import chosen
from folder import Folder
from support import driver, wait_until

PATIENCE = 30


class Base(Folder):
    """A server from the making of its data to the removal of its folder; it comes and goes.

    Each database adds ``connect``, ``backends``, ``terminate_one``, ``reset``, ``reload`` and what
    else tests ask of it.
    """

    #: The signals by which ``down`` ends the server.
    signals = {}
    #: The name of the signal that ends it at once and leaves nothing behind.
    at_once = None
    #: OPTIONS of the clients; those by which they ask for TLS.
    options, tls = {}, {}
    process = None
    _admin = None

    def __init__(self, host="127.0.0.1", namespace=None, **settings):
        Folder.__init__(self, host, namespace, **settings)

    def start(self):
        self.prepare(self.make_data)
        self.up()
        self.query("CREATE TABLE ledger (name varchar(100))")
        return self

    def up(self):
        """Start the server, and return when it accepts connections."""
        self.launch()
        self.wait_until_it_accepts()

    def wait_until_it_accepts(self):
        assert wait_until(self._accepts, PATIENCE), self.log()

    def launch(self):
        self.process = self.begin("exec %s >>log 2>&1 </dev/null" % self.life["serve"])

    def _accepts(self):
        if self.process.poll() is not None:
            # After a kill -9 PostgreSQL does not start before the last of the old backends has gone.
            self.launch()
        try:
            self.connect(connect_timeout=5).close()
        except driver.Error:
            return False
        return True

    def down(self, mode="fast"):
        """Stop the server, and return when it is gone."""
        self.process.send_signal(self.signals[mode])
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
            self.down(self.at_once)
        if self.process is not None and os.path.exists(self.pid_file):
            # Its pid may be another process's by now.
            os.remove(self.pid_file)
        Folder.stop(self)

    def log(self):
        with open(os.path.join(self.folder, "log")) as log:
            return log.read()[-3000:]

    # Questions and orders

    def connect(self, **options):
        """Return a session of the tests' own, in autocommit, which is no client's."""
        raise NotImplementedError

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
        cursor = self._admin.cursor()
        cursor.execute(sql, parameters or None)
        return cursor.fetchall() if cursor.description else []

    def ask(self, sql, *parameters):
        return self.query(sql, *parameters)[0][0]

    def forget_admin(self):
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def kill(self, pids):
        """Terminate these sessions, and return when they are gone."""
        chosen.kill(lambda sql, database=None, *values: self.query(sql, *values), pids)
