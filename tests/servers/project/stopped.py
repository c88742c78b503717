"""Under gevent the backend of an idle session is stopped; the next unit of work finds that out.

psycogreen is not used, so that the driver does not know gevent.
"""

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
    # From another process, as this one may hang until then.
    subprocess.Popen(["sh", "-c", "sleep %s; kill -CONT %d" % (patience, first)])
    began = time.time()
    second = sessions.unit_of_work()
    took = time.time() - began
    print(json.dumps({"is_another": second != first, "seconds": took}))
