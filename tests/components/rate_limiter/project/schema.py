"""A table that functions under test read."""

from reactor import define_schema, define_table

schema = define_schema({"nothing": define_table({})})
