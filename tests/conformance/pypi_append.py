"""Numbers appended one after the other, through whatever happens to the server. Prints each one that was acknowledged.

At the end prints the whole sequence, and what a subscription that was opened at the start shows by then.
"""

import json
import sys

from convex import ConvexClient


def main(url: str, count: int) -> None:
    client = ConvexClient(url)
    live = client.subscribe("numbers:sequence", {})
    next(live)
    for number in range(count):
        client.mutation("numbers:append", {"number": number})
        print(json.dumps({"acknowledged": number}), flush=True)
    sequence = client.query("numbers:sequence", {})
    shown = next(numbers for numbers in live if len(numbers) == len(sequence))
    print(json.dumps({"sequence": sequence, "shown": shown}), flush=True)


main(sys.argv[1], int(sys.argv[2]))
