"""The Django project that is measured: it runs in a process of each contender's own."""
