"""A private, throw-away database server: `with PrivatePostgres() as server:`.

A shell runs the server from the making of its data to the removal of its folder, and waits for a
line on its standard input. The end of that input will do, so nothing stays behind however this
process ends: Ctrl-C, SIGTERM and kill -9 included.
"""

import atexit
import os
import pwd
import random
import shutil
import subprocess
import tempfile

# Each server has its own ways to make its data, to be started, to say that it is ready, to be stopped
# at once, and to complain.
LIFE = r"""
bin=$1 folder=$2 settings=$3 ports=$4
exec 3>&1 >>"$folder/log" 2>&1
trap '' INT PIPE
{ %(make)s; } </dev/null &&
for port in $ports; do
    { exec %(serve)s; } </dev/null 3>&- & server=$!
    while kill -0 $server && ! %(is_ready)s; do sleep 0.05; done
    kill -0 $server || continue
    echo "$port" >&3
    read -r line
    kill -%(signal)s $server && wait $server
    break
done
grep -E '%(complaints)s' "$folder/log" | head -n 1 >&3
cd / && rm -rf "$folder"
"""


def unprivileged_account():
    """Return the account for servers, which refuse to run as root. None: this process's own will do."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def detach(account):
    """Leave the terminal, whose Ctrl-C is for the process that stops the server, and take an account."""
    os.setsid()
    if account:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


class NoServer(Exception):
    """No such server is installed, or it does not start."""


class PrivateServer(object):
    """Settings given by name go into the server's configuration, with their values as they are."""

    host, port, user, database = "127.0.0.1", None, None, None
    #: What its URL begins with.
    scheme = None
    #: Django's OPTIONS for it.
    options = {}
    #: The values of LIFE.
    life = {}
    name = "server"
    NoServer = NoServer
    _shell = None

    def __init__(self, **settings):
        self._settings = settings
        self._account = unprivileged_account()

    @property
    def url(self):
        return "{0.scheme}://{0.user}@{0.host}:{0.port}/{0.database}".format(self)

    def find_binaries(self):
        """Return the folder of the server's programs, or raise NoServer."""
        raise NotImplementedError

    def usable(self, binaries, folder):
        """Return the binaries, or their copy if the server's account may not read them."""
        return binaries

    def configuration(self, folder):
        """Return the text of the settings."""
        raise NotImplementedError

    def start(self):
        binaries, self._owner = self.find_binaries(), os.getpid()
        folder = os.path.realpath(tempfile.mkdtemp(prefix="db-"))
        try:
            usable = self.usable(binaries, folder)
            self._hand_over(folder)
            # The shell takes the first that is free. From 32768 on, clients are given theirs.
            ports = " ".join(map(str, random.SystemRandom().sample(range(20000, 32768), 5)))
            values = [usable, folder, self.configuration(folder), ports]
            self._shell = self._run(["sh", "-c", LIFE % self.life, "sh"] + values, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        atexit.register(self.stop)
        answer = self._shell.stdout.readline().decode("utf-8", "replace").strip()
        if not answer.isdigit():
            self.stop()
            raise self.NoServer("{} in {} did not start: {}".format(self.name, binaries, answer))
        self.port = int(answer)
        return self

    def stop(self):
        shell, self._shell = self._shell, None
        if shell and os.getpid() == self._owner:
            shell.communicate(b"stop\n")

    __enter__ = start

    def __exit__(self, *exception):
        self.stop()

    def _run(self, command, folder):
        env = {name: os.environ[name] for name in os.environ if not name.startswith("PG")}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "close_fds": True}
        options = dict(pipes, cwd=folder, env=dict(env, LC_ALL="C"), preexec_fn=self._detach)
        return subprocess.Popen(command, **options)

    def _detach(self):
        detach(self._account)

    def _hand_over(self, folder):
        if self._account:
            for path, folders, files in os.walk(folder):
                for name in [""] + folders + files:
                    os.lchown(os.path.join(path, name), self._account.pw_uid, self._account.pw_gid)
