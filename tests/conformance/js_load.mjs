// A client under load: logs requests one after the other, several at once, and prints the number of each one that was
// acknowledged. Lives through restarts of the server by its own means.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const client = new ConvexClient(process.argv[2]);
const { logAIRequest, getProviderStats } = api.ai.analytics;
const request = { provider: "load", fingerprint: "f", ip: "127.0.0.1", success: true, latencyMs: 1 };
let next = 0;

client.onUpdate(getProviderStats, { provider: "load", timeRange: { start: 0 } }, (stats) =>
  console.log(JSON.stringify({ seen: stats.totalRequests })),
);

async function worker() {
  for (;;) {
    const number = next++;
    await client.mutation(logAIRequest, { ...request, model: `m${number}` });
    console.log(JSON.stringify({ acknowledged: number }));
  }
}

for (let at = 0; at < 4; at++) worker();
