"""Routes behind limits."""

from functions.limits import limiter
from reactor import Response, api, http_action, http_router
from reactor.components.rate_limiter import headers_of, response_for

http = http_router()


@http_action
async def limited(ctx, request):
    """Answer, or say when to come again."""
    name = request.query_params["name"]
    try:
        await limiter.limit(ctx, name, throws=True)
    except Exception as error:
        reading = await limiter.get_value(ctx, name)
        refused = response_for(error, reading, ctx.now())
        if refused is None:
            raise
        return refused
    return Response("done", headers=headers_of(await limiter.get_value(ctx, name), ctx.now()))


@http_action
async def contended(ctx, request):
    """Answer, or say that too many came at once."""
    try:
        await ctx.run_mutation(api.limits.take, name="ten")
    except Exception as error:
        refused = response_for(error)
        if refused is None:
            raise
        return refused
    return Response("done")


http.route(path="/limited", method="GET", handler=limited)
http.route(path="/contended", method="GET", handler=contended)
