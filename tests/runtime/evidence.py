"""What actions of tests have done outside of the database, where a crash doesn't take it back."""

from collections import Counter

began: Counter[str] = Counter()
"""How often each action began, by name; who kills processes sets it to what the dead one had done."""
