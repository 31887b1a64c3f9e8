"""Validators of what `paginate` takes from clients and gives back to them. Used by functions that paginate."""

from typing import Final

from reactor.schema.containers import Object
from reactor.schema.validators import Validator, v

pagination_opts_validator: Final = v.object(
    {
        "numItems": v.number(),
        "cursor": v.nullable(v.string()),
        "endCursor": v.optional(v.nullable(v.string())),
        "id": v.optional(v.number()),
        "maximumRowsRead": v.optional(v.number()),
        "maximumBytesRead": v.optional(v.number()),
    }
)


def pagination_result_validator(item: Validator) -> Object:
    """Return the shape of a page of `item`."""
    return v.object(
        {
            "page": v.array(item),
            "continueCursor": v.string(),
            "isDone": v.boolean(),
            "splitCursor": v.optional(v.nullable(v.string())),
            "pageStatus": v.optional(v.union(v.literal("SplitRecommended"), v.literal("SplitRequired"), v.null())),
        }
    )
