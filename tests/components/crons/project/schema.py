"""What crons have done, and when."""

from reactor import define_schema, define_table, v

schema = define_schema({"runs": define_table({"text": v.string(), "at": v.number()})})
