"""The constants that `deqops.verify` uses, derived: exact in sympy, enclosed in balls where nothing is closed.

`tests/test_symbolic.py` compares each with the constant in the code, outward rounding included.
"""
