"""Scores of games, counted by a trigger."""

from functions._counted import by_game, by_player, for_docs
from reactor import define_schema, define_table, define_triggers, v

score = define_table({"game": v.string(), "player": v.string(), "points": v.number(), "cost": v.integer()})

schema = define_schema({"scores": score, "imported": score, "queued": score})

triggers = define_triggers(
    {
        "scores": [by_game.trigger(), by_player.idempotent_trigger()],
        "queued": for_docs.trigger(later=True),
    }
)
