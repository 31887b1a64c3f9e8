"""Why a value is not what its validator asks for, and the official text that says so.

Owns the texts of validation errors. Promises that a mismatch is found without building any text, so that a union may
try its members cheaply; `text` is called once, for the error that is raised. Used by `validators`.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from reactor.values.display import display
from reactor.values.types import Value

Path: TypeAlias = str  # `.members[2].name`, with `.keys()` and `.values()` for the parts of a record

ROOT: Final[Path] = ""


class MismatchKind(StrEnum):
    """The official names of the ways in which a value can be wrong."""

    NO_MATCH = "NoMatch"
    MISSING_REQUIRED_FIELD = "MissingRequiredField"
    EXTRA_FIELD = "ExtraField"
    LITERAL = "LiteralValuesDoNotMatch"
    OTHER_TABLE = "TableNamesDoNotMatch"
    SYSTEM_TABLE = "SystemTableReference"


class Mismatch(NamedTuple):
    """The first thing wrong with a value: where it is, what stands there, what was expected.

    `name` is the field that is missing or extra, or the table that an id belongs to. `expected` prints the validator,
    or only its literal or table name where the text of that kind asks for no more.
    """

    kind: MismatchKind
    path: Path
    value: Value
    expected: Callable[[], str]
    name: str = ""

    def text(self) -> str:
        """Return the official text, without the prefix that says what was being validated."""
        context = f"Path: {self.path}" if self.path else ""
        value, expected = display(self.value), self.expected()
        match self.kind:
            case MismatchKind.NO_MATCH:
                return f"Value does not match validator.\n{context}\nValue: {value}\nValidator: {expected}"
            case MismatchKind.MISSING_REQUIRED_FIELD:
                return (
                    f"Object is missing the required field `{self.name}`. Consider wrapping the field validator in "
                    f"`v.optional(...)` if this is expected.\n{context}\nObject: {value}\nValidator: {expected}"
                )
            case MismatchKind.EXTRA_FIELD:
                return (
                    f"Object contains extra field `{self.name}` that is not in the validator."
                    f"\n{context}\nObject: {value}\nValidator: {expected}"
                )
            case MismatchKind.LITERAL:
                return f"`{value}` does not match literal validator `{expected}`.{context}"
            case MismatchKind.OTHER_TABLE:
                found = f"from table `{self.name}`"
            case MismatchKind.SYSTEM_TABLE:
                found = "from a system table"
        return f"Found ID {value} {found}, which does not match the table name in validator `{expected}`.{context}"
