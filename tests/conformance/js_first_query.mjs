// Ten lines of an app: subscribe to a query, call a mutation, see the new result by push. Prints each update.
import { ConvexClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const client = new ConvexClient(process.argv[2]);
const { logAIRequest, getProviderStats } = api.ai.analytics;
const request = { provider: "openai", model: "gpt", fingerprint: "f", ip: "127.0.0.1", success: true, latencyMs: 120 };
client.onUpdate(getProviderStats, { provider: "openai", timeRange: { start: 0 } }, async (stats) => {
  console.log(JSON.stringify(stats));
  if (stats.totalRequests === 0) console.log(JSON.stringify(await client.mutation(logAIRequest, request)));
  else await client.close();
});
