// Numbers appended one after the other, several under way at a time, through whatever happens to the server, until SIGTERM.
// Prints the position of each one that was acknowledged; at the end the whole sequence, what a live query shows by then,
// and what the client says of its connection.
import { ConvexClient } from "convex/browser";
import { ConvexReactClient } from "convex/react";
import { anyApi as api } from "convex/server";
import { WebSocket } from "ws"; // comes with convex

const [url, kind] = process.argv.slice(2);
const { append, sequence } = api.numbers;
const say = (line) => console.log(JSON.stringify(line));
let client, shown, stopping = false, changed = () => {};

function show(numbers) {
  shown = numbers;
  changed();
}

if (kind === "react") {
  client = new ConvexReactClient(url, { webSocketConstructor: WebSocket });
  const watch = client.watchQuery(sequence, {});
  watch.onUpdate(() => show(watch.localQueryResult()));
} else {
  client = new ConvexClient(url);
  client.onUpdate(sequence, {}, show);
}
process.on("SIGTERM", () => (stopping = true));

let next = 0;
async function work() {
  while (!stopping) {
    const number = next++;
    say({ number, position: await client.mutation(append, { number }) });
  }
}
await Promise.all([work(), work(), work(), work()]);
const whole = await client.query(sequence, {});
while (shown?.length !== whole.length) await new Promise((done) => (changed = done));
const { connectionCount, hasInflightRequests } = client.connectionState();
say({ sequence: whole, shown, connections: connectionCount, inFlight: hasInflightRequests });
await client.close();
