"""The Django project that is measured. Each contender runs it in a process of its own."""
