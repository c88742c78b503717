"""What tests share that needs neither Django nor a database's driver."""

from __future__ import absolute_import

import os
import random
import socket
import time


def wait_until(condition, seconds=10):
    """Whether a condition came true in time."""
    end = time.time() + seconds
    while not condition():
        if time.time() > end:
            return False
        time.sleep(0.005)
    return True


def free_port(host="127.0.0.1"):
    """A port that the kernel gives to nobody by itself, so that it stays free over a restart."""
    while True:
        port = random.SystemRandom().randrange(20000, 32768)
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return port
        except (OSError, socket.error):
            pass
        finally:
            probe.close()


def find_program(name):
    """The path of a program, also of those for administrators only, or None."""
    folders = os.environ.get("PATH", "").split(os.pathsep) + ["/usr/sbin", "/usr/local/sbin"]
    for path in [os.path.join(folder, name) for folder in folders]:
        if os.access(path, os.X_OK):
            return path
    return None
