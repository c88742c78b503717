"""The folder of a server: its data, its certificate, and how its programs are run in it."""

from __future__ import absolute_import

import ctypes
import os
import tempfile

from basics import free_port
from databases import chosen

CLONE_NEWNET = 0x40000000

# Waits for the end of its input, which comes however the tests end.
GUARD = r"""
trap '' INT PIPE
exec 2>/dev/null
read -r line
if [ -e "$2" ]; then
    server=$(head -n 1 "$2")
    kill -"$3" "$server"
    for turn in $(seq 200); do
        kill -0 "$server" || break
        sleep 0.05
    done
fi
cd / && rm -rf "$1"
"""
SIGN = (
    "openssl req -new -x509 -nodes -days 2 -subj /CN=localhost -out server.crt -keyout server.key"
)


class Folder(chosen.Server):
    #: The settings of a server for the faults, and the file in its folder that begins with its pid.
    usual, pid_file = {}, None

    def __init__(self, host, namespace, **settings):
        chosen.Server.__init__(self)
        self._settings.update(self.usual, **settings)
        self.host, self.namespace = host, namespace

    def prepare(self, make_data):
        """Make the folder with its data, and the guard that removes it."""
        self._owner = os.getpid()
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="db-"))
        self.bin = self.usable(self.find_binaries(), self.folder)
        self.port = free_port()
        self._hand_over(self.folder)
        self.pid_file = os.path.join(self.folder, self.pid_file)
        guard = ["sh", "-c", GUARD, "sh", self.folder, self.pid_file, self.life["signal"]]
        self._shell = self._run(guard, "/")
        try:
            self.call("umask 077 && %s 2>/dev/null" % SIGN)
            make_data()
        except BaseException:
            self.stop()
            raise

    def make_data(self):
        self.call(self.life["make"])

    def call(self, script):
        """Run a script with the server's account, in its folder, and return when it has ended."""
        process = self.begin(script)
        output = process.communicate()[0]
        if process.returncode != 0:
            raise self.NoServer("%s: %s" % (script, output.decode("utf-8", "replace")))

    def begin(self, script):
        """Begin a script. It knows the variables of the server's ``life``."""
        values = [self.bin, self.folder, self.configuration(self.folder), str(self.port)]
        script = "bin=$1 folder=$2 settings=$3 port=$4; " + script
        return self._run(["sh", "-c", script, "sh"] + values, self.folder)

    def _detach(self):
        if self.namespace:
            with open("/var/run/netns/" + self.namespace.name) as door:
                if ctypes.CDLL(None).setns(door.fileno(), CLONE_NEWNET):
                    os._exit(1)
        chosen.Server._detach(self)
