// Mutations asked for without waiting for answers. Prints the position at which each one ran, in the order of the calls.
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { ConvexReactClient } from "convex/react";
import { anyApi as api } from "convex/server";
import { WebSocket } from "ws"; // comes with convex

const [url, kind, count] = process.argv.slice(2);
const client = {
  simple: () => new ConvexClient(url),
  react: () => new ConvexReactClient(url, { webSocketConstructor: WebSocket }),
  http: () => new ConvexHttpClient(url), // sends each when the one before was answered
}[kind]();
const { append, sequence } = api.numbers;
const numbers = Array.from({ length: Number(count) }, (_, number) => number);
const answered = [];
const positions = await Promise.all(
  numbers.map(async (number) => {
    const position = await client.mutation(append, { number });
    answered.push(number);
    return position;
  }),
);
const connections = client.connectionState?.().connectionCount ?? null;
console.log(JSON.stringify({ positions, answered, sequence: await client.query(sequence, {}), connections }));
await client.close?.();
