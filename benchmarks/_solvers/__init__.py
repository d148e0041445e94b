"""The parts of `benchmarks/solvers.py`: problems, methods, measurements, tables."""
