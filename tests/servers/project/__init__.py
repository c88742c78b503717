"""A Django project that servers serve: it answers who answered."""
