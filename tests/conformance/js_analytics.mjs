// The calls of `api.ai.analytics` as the AI service makes them. Prints [step, result] for each.
// Arguments: the server's URL, its admin key or "", and the name of a provider.
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";

const [url, adminKey, provider] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const failure = (error) => (error instanceof ConvexError ? error.data.code : error.message);
const { logAIRequest, getProviderStats, detectBotPatterns, getBotEvents } = api.ai.analytics;
const event = { fingerprint: provider, ip: "203.0.113.7", userAgent: "GPTBot/1.0", detectionType: "bot_useragent" };
const request = (more) => ({
  provider, model: "gpt-4", userId: "user_1", fingerprint: "5de597a862a78b5f", ip: "203.0.113.7",
  success: true, tokensUsed: 120, latencyMs: 250, cost: 0.1, ...more,
});

const http = new ConvexHttpClient(url);
if (adminKey) http.setAdminAuth(adminKey);

async function calls(name, key) {
  const now = Date.now();
  const range = { start: now - 60 * 60 * 1000, end: now + 60 * 1000 };
  const since = now - 60 * 60 * 1000;
  say(`${name} logs`, await http.mutation(logAIRequest, { ...request({}), ...key }).catch(failure));
  const failed = request({ success: false, error: "timeout", tokensUsed: undefined, latencyMs: 750, cost: 0.2 });
  say(`${name} logs a failure`, await http.mutation(logAIRequest, { ...failed, ...key }).catch(failure));
  say(`${name} asks`, await http.query(getProviderStats, { provider, timeRange: range, ...key }).catch(failure));
  const verdicts = [];
  for (let number = 0; number < 13; number++) {
    const verdict = await http.mutation(detectBotPatterns, { ...event, ...key }).catch(failure);
    verdicts.push(verdict.action ?? verdict);
  }
  say(`${name} detects`, verdicts);
  const events = await http.query(getBotEvents, { limit: 100, since, ...key }).catch(failure);
  const shown = (found) => [found.detectionType, found.action, found.metadata];
  say(`${name} lists`, typeof events === "string" ? events : events.slice(0, 2).map(shown));
}

if (!adminKey) {
  await calls("anybody", {});
} else {
  await calls("admin", {});
  const create = (scopes) =>
    http.mutation(api.apiKeys.create, { name: scopes[0], userId: "user_1", scopes }).then(({ key }) => ({ apiKey: key }));
  const [full, reader] = [await create(["analytics:*"]), await create(["analytics:read"])];
  http.setAdminAuth(undefined);
  await calls("key", full);
  say("reader logs", await http.mutation(logAIRequest, { ...request({}), ...reader }).catch(failure));
  say("nobody logs", await http.mutation(logAIRequest, request({})).catch(failure));
  say("nobody asks", await http.query(getProviderStats, { provider, timeRange: { start: 0 } }).catch(failure));

  // A page that shows the last hour, and is told of each new request.
  const live = new ConvexClient(url);
  const totals = await new Promise((done) => {
    const seen = [];
    live.onUpdate(getProviderStats, { provider, timeRange: { start: 0 }, ...full }, async (stats) => {
      seen.push(stats.totalRequests);
      if (seen.length === 1) await http.mutation(logAIRequest, { ...request({}), ...full });
      else done(seen);
    });
  });
  say("pushed", totals);
  await live.close();
}
