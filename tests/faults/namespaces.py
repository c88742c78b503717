"""A network namespace for a server: its clients, in ours, reach it over a link that can go bad."""

from __future__ import absolute_import

import os
import subprocess

from basics import find_program

# Waits for the end of its input, which comes however the tests end. The link is deleted by name,
# because a namespace's links only go some time after the namespace.
GUARD = "trap '' INT PIPE; read -r line; ip link del %s; ip netns del %s"
RULES = """
table inet faults {
    chain input { type filter hook input priority 0; %(what)s %(verdict)s; }
}
"""
DROP, RESET = "drop", "reject with tcp reset"


def why_not():
    """The reason why there can be no namespace, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "nft"):
        if find_program(program) is None:
            return "%s is not installed" % program
    try:
        with Namespace():
            return None
    except OSError as error:
        return "no network namespace can be made here: %s" % error


class Namespace(object):
    def __init__(self):
        number = os.getpid()
        self.name = "faults-%d" % number
        net = "10.%d.%d" % (128 + number // 256 % 64, number % 256)
        self.near, self.host = net + ".1", net + ".2"
        self._link = ["flt%da" % number, "flt%db" % number]

    def __enter__(self):
        near, far = self._link
        run("ip netns add %s" % self.name)
        command = ["sh", "-c", GUARD % (near, self.name)]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, preexec_fn=os.setsid)
        try:
            run("ip link add %s type veth peer name %s netns %s" % (near, far, self.name))
            run("ip address add %s/24 dev %s" % (self.near, near))
            run("ip link set %s up" % near)
            for command in ("address add %s/24 dev %s" % (self.host, far), "link set %s up" % far):
                run("ip -n %s %s" % (self.name, command))
            run("ip -n %s link set lo up" % self.name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        self._guard.communicate(b"stop\n")

    def block(self, what, verdict):
        """Drop or reject incoming packets that match ``what``, in the language of nftables."""
        run("nft -f -", self.name, RULES % {"what": what, "verdict": verdict})

    def heal(self):
        run("nft flush ruleset", self.name)


def run(command, namespace=None, text=""):
    prefix = ["ip", "netns", "exec", namespace] if namespace else []
    process = subprocess.Popen(
        prefix + command.split(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        close_fds=True,
    )
    output = process.communicate(text.encode())[0]
    if process.returncode != 0:
        raise OSError("%s: %s" % (command, output.decode("utf-8", "replace")))
