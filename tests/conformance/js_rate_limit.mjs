// The published hook `useRateLimit`, rendered without a browser, against an application that exports `hook_api`; and
// the package's own arithmetic. Prints [step, result] for each.
import { calculateRateLimit } from "@convex-dev/rate-limiter";
import { useRateLimit } from "@convex-dev/rate-limiter/react";
import { ConvexProvider, ConvexReactClient } from "convex/react";
import { anyApi as api } from "convex/server";
import { readFileSync } from "node:fs";
import { createElement } from "react";
import { create } from "react-test-renderer";
import { WebSocket } from "ws"; // comes with convex

const say = (step, result) => console.log(JSON.stringify([step, result]));
const [url, vectors] = process.argv.slice(2);
for (const { existing, config, now, count } of JSON.parse(readFileSync(vectors)))
  say("vector", calculateRateLimit(existing, config, now, count));

const client = new ConvexReactClient(url, { webSocketConstructor: WebSocket });
const take = (count, name = "ten") => client.mutation(api.limits.take, { name, count });

// Render a component with the hook; `until` waits for a render that fits.
const render = (query, options) => {
  let latest;
  let changed = () => {};
  const Probe = () => {
    latest = useRateLimit(query, { getServerTimeMutation: api.limits.getServerTime, ...options });
    changed();
    return null;
  };
  const tree = create(createElement(ConvexProvider, { client }, createElement(Probe)));
  const until = async (fits) => {
    while (!(latest?.status && fits(latest))) await new Promise((done) => (changed = done));
    return latest;
  };
  return { until, close: () => tree.unmount() };
};

const probe = render(api.limits.ofTen, { count: 1 });
const full = await probe.until(() => true);
say("full", { ok: full.status.ok, retryAt: full.status.retryAt ?? null, value: full.check(Date.now(), 0).value });

say("taken", await take(8));
const two = await probe.until(({ check }) => check(Date.now(), 0).value < 5);
say("two left", { ok: two.status.ok, three: two.check(Date.now(), 3).ok });

say("taken", await take(2));
const none = await probe.until(({ status }) => !status.ok);
const wait = none.status.retryAt - Date.now();
say("none left", { ok: none.status.ok, wait: wait > 0 && wait <= 60_000, config: none.check(Date.now(), 1).config });
probe.close();

// A limit that refills while somebody looks: the hook renders again by itself when it is time.
say("taken", await take(1, "fast"));
const fast = render(api.limits.getRateLimit, { name: "fast", count: 1 });
say("again", (await fast.until(({ status }) => status.ok)).status.ok);
fast.close();

for (const [step, query, options] of [
  ["window", api.limits.getRateLimit, { name: "windows" }],
  ["sharded", api.limits.getRateLimit, { name: "sharded", sampleShards: 3 }],
  ["key", api.limits.ofClient, { key: "somebody" }],
]) {
  const other = render(query, options);
  const { check } = await other.until(() => true);
  say(step, check(Date.now(), 0).value);
  other.close();
}
await client.close();
