"""What is asked of an import, and what people are told that it would do.

Owns the names of formats and modes, on the wire and in documents. Used by the service and the endpoints.
"""

from typing import Any, Final

import msgspec

from reactor.errors import Error, TransferRefused
from reactor.transfer.bundle import FORMATS, MODES, Bundle
from reactor.transfer.plan import Plan
from reactor.values.names import check_identifier
from reactor.values.types import Int64

_STORED_MODES: Final = {
    "requireEmpty": "RequireEmpty",
    "append": "Append",
    "replace": "Replace",
    "replaceAll": "ReplaceAll",
}
_STORED_FORMATS: Final = {"csv": "csv", "jsonLines": "jsonl", "jsonArray": "json_array", "zip": "zip"}


class ImportRequest(msgspec.Struct, frozen=True):
    """What shall be imported, and how."""

    format: str
    mode: str = "requireEmpty"
    table: str | None = None
    component: str = ""

    def check(self) -> None:
        """Check that it makes sense.

        Raises:
            TransferRefused: it does not.
        """
        if self.format not in FORMATS:
            raise TransferRefused("InvalidImport", f"There is no format {self.format!r}, only {', '.join(FORMATS)}.")
        if self.mode not in MODES:
            raise TransferRefused("InvalidImport", f"There is no mode {self.mode!r}, only {', '.join(MODES)}.")
        if (self.format == "zip") == (self.table is not None):
            reason = (
                "A zip names its tables itself" if self.format == "zip" else f"Which table is this {self.format} for"
            )
            raise TransferRefused("InvalidName", f"{reason}: give a table name with every format but zip.")
        if self.mode == "replaceAll" and self.format != "zip":
            raise TransferRefused("InvalidImport", "Only a zip can replace all tables.")
        if self.table is not None:
            try:
                check_identifier(self.table)
            except Error as error:
                raise TransferRefused("ImportInvalidName", f"{self.table!r} can't name a table: {error}") from None
            if self.table.startswith("_"):
                raise TransferRefused("ImportInvalidName", f"{self.table!r} is a system table.")

    def fields(self) -> dict[str, Any]:
        """Return what the document of such an import says of it."""
        stored: dict[str, Any] = {"format": _STORED_FORMATS[self.format]}
        if self.table is not None:
            stored["table"] = self.table
        return {
            "format": stored,
            "mode": _STORED_MODES[self.mode],
            "component_path": self.component,
            "member_id": None,
            "checkpoints": [],
            "requestor": {"type": "snapshotImport"},
        }


def checkpoints(plan: Plan, mode: str) -> list[dict[str, Any]]:
    """Return what an import would do to each table, as its document says it."""
    return [
        {
            "component_path": target.component,
            "display_table_name": target.name,
            "total_num_rows_to_write": Int64(0 if target.rows is None else target.rows.count),
            "num_rows_written": Int64(0),
            "existing_rows_in_table": Int64(target.standing),
            "existing_rows_to_delete": Int64(0 if mode == "append" else target.standing),
            "is_missing_id_field": False,
        }
        for target in plan.targets
    ]


def summary(plan: Plan, request: ImportRequest, bundle: Bundle) -> tuple[str, bool]:
    """Return what an import would change, for people, and whether it would delete anything."""
    rows = [("table", "create", "delete")]
    deletes = False
    for target in plan.targets:
        deleted = 0 if request.mode == "append" else target.standing
        deletes = deletes or deleted > 0
        made = 0 if target.rows is None else target.rows.count
        rows.append((target.full_name, str(made), f"{deleted} of {target.standing}"))
    rows += [(f"{files.component}/_storage".strip("/"), str(files.documents.count), "") for files in bundle.files]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    note = "Once it has begun, it goes on in the background, also when this command ends."
    return "\n".join(["Import change summary:", *lines, note]), deletes
