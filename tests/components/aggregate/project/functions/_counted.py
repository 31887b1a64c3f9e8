"""The aggregates of the project."""

from reactor import components
from reactor.components.aggregate import TableAggregate

by_game = TableAggregate(
    components.games,
    namespace=lambda score: score["game"],
    sort_key=lambda score: score["points"],
    sum_value=lambda score: {"points": score["points"], "cost": score["cost"]},
)
by_player = TableAggregate(
    components.players, sort_key=lambda score: [score["player"], score["points"]], sum_value=lambda score: score["cost"]
)
for_docs = TableAggregate(components.queued, sort_key=lambda score: score["points"])
imported = TableAggregate(
    components.imported, namespace=lambda score: score["game"] or None, sort_key=lambda score: score["points"]
)
