// What server components and route handlers of Next.js call, with a token and without one; no Next.js is needed for it.
// Arguments: the server, its HTTP actions, an admin key. NEXT_PUBLIC_CONVEX_URL is the server too. Prints [step, result]
// for each.
import { fetchMutation, fetchQuery, preloadQuery, preloadedQueryResult } from "convex/nextjs";
import { anyApi as api } from "convex/server";

const [url, site, adminKey] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const code = ({ data }) => data?.code;
const { viewer } = api.issuer;
const { getProviderStats, logAIRequest } = api.ai.analytics;

const answer = await fetch(`${site}/sign-in`, { method: "POST", body: JSON.stringify({ name: "Ann" }) });
const { token } = await answer.json();
const request = { provider: "openai", model: "m", fingerprint: "f", ip: "10.0.0.1", success: true, latencyMs: 5 };
const range = { provider: "openai", timeRange: { start: 0 } };
const total = async (options) => (await fetchQuery(getProviderStats, range, options)).totalRequests;

say("query", [await fetchQuery(viewer), await fetchQuery(viewer, {}, { url }), await fetchQuery(viewer, {}, { token })]);
say("mutation", await fetchMutation(logAIRequest, request, { token }));
say("total", [await total({ token }), await total({})]);
const preloaded = await preloadQuery(getProviderStats, range, { token });
say("preloaded", [preloadedQueryResult(preloaded).totalRequests, Object.keys(preloaded).sort()]);
say("viewer", preloadedQueryResult(await preloadQuery(viewer, {}, { url, token })));

// From here on a caller needs the scope.
await fetch(`${url}/api/update_environment_variables`, {
  method: "POST",
  headers: { Authorization: `Convex ${adminKey}`, "Content-Type": "application/json" },
  body: JSON.stringify({ changes: [{ name: "AI_PUBLIC_LOGGING", value: "false" }] }),
});
say("with a token", [await fetchMutation(logAIRequest, request, { token }), await total({ token })]);
say("without", [
  await fetchMutation(logAIRequest, request).catch(code),
  await fetchQuery(getProviderStats, range).catch(code),
  await preloadQuery(getProviderStats, range).catch(code),
]);
const forged = token.replace(/[^.]*$/, "A".repeat(86));
say("a forged one", await fetchQuery(viewer, {}, { token: forged }).catch(({ message }) => JSON.parse(message).code));
