"""Seeded defects, one patch file each, and the run that shows that the tests see them: `python -m mutations`."""
