// Clients under load: each worker of each client writes one marker after the other. Prints a marker once its mutation is
// acknowledged, and what a subscription sees. Lives through the death of the server by its own means; after SIGTERM it
// lets what is under way finish and prints how many markers were sent.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const [url, clients, workers] = process.argv.slice(2);
const { write, total } = api.pairs;
const say = (line) => console.log(JSON.stringify(line));
let stopping = false;
process.on("SIGTERM", () => (stopping = true));

async function load(name) {
  const client = new ConvexClient(url);
  let sent = 0;
  client.onUpdate(total, {}, (total) => say({ name, total, connections: client.connectionState().connectionCount }));
  async function work() {
    while (!stopping) {
      const marker = `${name}-${sent++}`;
      await client.mutation(write, { marker });
      say({ acknowledged: marker });
    }
  }
  await Promise.all(Array.from({ length: workers }, work));
  await client.close();
  return sent;
}

const sent = await Promise.all(Array.from({ length: clients }, (_, at) => load(`client${at}`)));
say({ sent });
