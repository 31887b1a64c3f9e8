// The calls of `api.embeddings.rateLimiting` as the embeddings service makes them. Prints [step, result] for each.
// Arguments: the server's URL, the URL of its HTTP actions, and its admin key or "".
import { createHash } from "node:crypto";
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";

const [url, siteUrl, adminKey] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const failure = (error) => (error instanceof ConvexError ? error.data.code : error.message);
const hash = (key) => createHash("sha256").update(key).digest("hex");
const { checkRateLimit, logRequest, logAuthFailure } = api.embeddings.rateLimiting;

const http = new ConvexHttpClient(url);
if (adminKey) http.setAdminAuth(adminKey);

async function calls(name, keyHash, more) {
  const check = () => http.query(checkRateLimit, { keyHash, window: 3600, ...more }).catch(failure);
  say(`${name} checks`, await check());
  const request = { requestId: `${name} 1`, apiKeyHash: keyHash, batchSize: 8, latencyMs: 42.5, tokensUsed: 512 };
  const first = await http.mutation(logRequest, { ...request, success: true, ...more }).catch(failure);
  const second = await http.mutation(logRequest, { ...request, success: true, ...more }).catch(failure);
  say(`${name} logs once`, first === second ? (first.length > 20 ? "an id" : first) : [first, second]);
  const failed = { ...request, requestId: `${name} 2`, success: false, error: "out of memory" };
  const other = await http.mutation(logRequest, { ...failed, ...more }).catch(failure);
  say(`${name} logs a failure`, other === first ? other : "another id");
  say(`${name} checks again`, await check());
  const guess = { keyHash: hash("guess"), ip: "203.0.113.7", userAgent: "curl/8.5.0" };
  say(`${name} logs a guess`, await http.mutation(logAuthFailure, { ...guess, ...more }).catch(failure));
}

if (!adminKey) {
  await calls("anybody", hash("nobody's"), {});
} else {
  const rateLimit = { requests: 3, windowSeconds: 3600 };
  const create = () => http.mutation(api.embeddings.keys.create, { name: "service", rateLimit });
  const [one, two] = [await create(), await create()];
  await calls("admin", hash(one.key), {});
  const scoped = async (scopes) => {
    const { key } = await http.mutation(api.apiKeys.create, { name: "service", userId: "user_1", scopes });
    return { apiKey: key };
  };
  const [service, reader, client] = [await scoped(["embeddings:*"]), await scoped(["embeddings:read"]), await scoped(["ai:*"])];
  const small = await http.mutation(api.apiKeys.create, {
    name: "small", userId: "user_2", scopes: ["ai:openai"], rateLimit: { requests: 1, period: 10000 },
  });
  const stats = await http.query(api.embeddings.stats.getStats, { keyId: one.id, window: "1h" });
  say("admin asks", [stats.totalRequests, stats.totalTokens, stats.averageLatency, stats.errorRate]);
  http.setAdminAuth(undefined);
  await calls("key", hash(two.key), service);
  await calls("reader", hash(two.key), reader);
  await calls("nobody", hash(two.key), {});

  const post = async (provider, headers) => {
    const answer = await fetch(`${siteUrl}/ai/${provider}`, { method: "POST", headers });
    return [answer.status, answer.headers.get("retry-after"), (await answer.json()).reason ?? null];
  };
  say("admitted", await post("openai", { "X-API-Key": client.apiKey, "User-Agent": "test" }));
  say("unknown provider", await post("globalAI", { "X-API-Key": client.apiKey, "User-Agent": "test" }));
  say("without a key", await post("openai", { "User-Agent": "test" }));
  say("without the scope", await post("openai", { "X-API-Key": reader.apiKey, "User-Agent": "test" }));
  say("a bot", await post("openai", { "X-API-Key": client.apiKey, "User-Agent": "GPTBot/1.0" }));
  const limited = { "X-API-Key": small.key, "User-Agent": "test" };
  say("within the limit", await post("openai", limited));
  say("beyond the limit", await post("openai", limited));
}
