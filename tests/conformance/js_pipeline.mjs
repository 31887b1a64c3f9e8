// Mutations sent without waiting for answers. Prints the position at which each one ran, in the order they were sent.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const client = new ConvexClient(process.argv[2]);
const { append, sequence } = api.numbers;
const numbers = Array.from({ length: Number(process.argv[3]) }, (_, number) => number);
const answered = [];
const positions = await Promise.all(
  numbers.map(async (number) => {
    const position = await client.mutation(append, { number });
    answered.push(number);
    return position;
  }),
);
const state = client.connectionState();
console.log(JSON.stringify({ positions, answered, sequence: await client.query(sequence, {}), connections: state.connectionCount }));
await client.close();
