"""Run with `pytest` after `pip install "reactor-db[test]"`: the fixture `deployment` is the real engine in memory."""


async def test_a_sent_message_reaches_subscribers(deployment):
    async with deployment.subscribe("messages:list_messages", {"channel": "general"}) as live:
        assert await live.next() == []

        await deployment.mutation("messages:send", {"channel": "general", "author": "Ann", "body": "Hello"})

        assert [message["body"] for message in await live.next()] == ["Hello"]
