"""A session whose server is stopped while it is idle, under gevent, with a driver that does not
know gevent: psycogreen is not used."""

from __future__ import absolute_import

import json
import os
import signal
import subprocess
import sys
import time

from gevent import monkey

monkey.patch_all()

from project import sessions  # noqa: E402

if __name__ == "__main__":
    patience = float(sys.argv[1])
    persistconn = sessions.set_up()
    first = sessions.unit_of_work()
    os.kill(first, signal.SIGSTOP)
    # Another process, as this one may hang until then.
    subprocess.Popen(["sh", "-c", "sleep %s; kill -CONT %d" % (patience, first)])
    began = time.time()
    second = sessions.unit_of_work()
    took = time.time() - began
    print(json.dumps({"is_another": second != first, "seconds": took}))
