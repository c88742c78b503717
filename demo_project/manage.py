#!/usr/bin/env python
import os
import sys

if __name__ == "__main__":
    # In place of this folder, so that nothing here is importable under two names.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    os.environ["DJANGO_SETTINGS_MODULE"] = "demo_project.settings"

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
