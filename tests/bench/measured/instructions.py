"""Connection cycles between two marks, for a tool that counts this process's instructions."""

from __future__ import absolute_import

import os
import sys

from measured.requests import Connections
from measured.wsgi import make_application

#: Cycles after which the interpreter has specialised the code.
WARM_UP = 200


def mark():
    """Call a function of the C library that no other code here calls, and that does nothing."""
    os.getpgid(0)


if __name__ == "__main__":
    cycle = Connections(make_application()).cycle
    for _turn in range(WARM_UP):
        cycle()
    mark()
    for _turn in range(int(sys.argv[1])):
        cycle()
    mark()
