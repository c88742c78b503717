"""Celery's own command, after two imports that must not come in the middle of gevent's patches.

While gevent patches Python 2.7, it looks at Celery's lazy objects, and so imports these modules.
They start ldconfig, and gevent, half patched, can wait for its end for ever.
"""

from __future__ import absolute_import

import uuid  # noqa: F401

try:
    import pathlib2  # noqa: F401
except ImportError:
    pass  # a newer Python has it

from celery.__main__ import main

if __name__ == "__main__":
    main()
