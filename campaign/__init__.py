"""The soundness campaign: bounds, verdicts and the checker against exact arithmetic, by the hundred thousand.

`python -m campaign matrices|balls|claims|tampered|all`; `make campaign` runs all of it.
"""
