"""What the sections found, as text."""

from __future__ import annotations

from ._state import State


def table(states: list[State]) -> str:
    """Counts and largest values of each section, then every violation with how to repeat it."""
    lines = []
    for state in states:
        hours = state.seconds / 3600
        lines.append(f"{state.section.name} (seed {state.seed}, {hours:.2f} process hours): {state.section.about}")
        counts = {**state.tally.counts, "violations": len(state.tally.violations)}
        lines += [f"  {name:<44}{number:>12}" for name, number in counts.items()]
        lines += [f"  {name:<44}{value:>12.3g}" for name, value in sorted(state.tally.largest.items())]
    for state in states:
        for violation in state.tally.violations[:50]:
            number = violation.removeprefix("case ").partition(":")[0]
            lines.append(f"VIOLATION in {state.section.name}, {violation}")
            lines.append(f"  repeat: python -m campaign {state.section.name} --seed {state.seed} --case {number}")
    return "\n".join(lines) + "\n"
