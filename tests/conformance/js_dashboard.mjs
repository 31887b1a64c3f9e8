// The page of examples/dashboard in a real browser, and another client that writes what the page shows.
// Arguments: the page, the server, Chromium, a file for the screenshot. Prints [step, result] for each.
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { chromium } from "playwright-core";

const [pageUrl, serverUrl, executablePath, screenshot] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const other = new ConvexHttpClient(serverUrl, { logger: false });
const log = (provider, more = {}) =>
  other.mutation(api.ai.analytics.logAIRequest, {
    provider,
    model: "m",
    fingerprint: "f",
    ip: "10.0.0.1",
    success: true,
    latencyMs: 1500,
    tokensUsed: 1000,
    cost: 0.25,
    ...more,
  });

const flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking";
const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [...flags.split(" "), "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1120, height: 900 } });
  page.setDefaultTimeout(30_000);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  const text = (selector) => page.locator(selector).innerText();
  const until = (selector, wanted) => page.locator(selector, { hasText: wanted }).waitFor();
  let loads = 0;
  page.on("load", () => loads++);
  const sent = []; // what the page asked over its socket
  page.on("websocket", (socket) =>
    socket.on("framesent", ({ payload }) => {
      const message = JSON.parse(payload);
      for (const change of message.modifications ?? []) if (change.type === "Add") sent.push([change.udfPath, change.args]);
    }),
  );

  await page.goto(pageUrl);
  const count = (provider) => `[data-provider=${provider}] .count`;
  await until("h1 small", "live");
  await until(count("openai"), /^0$/);
  say("at first", [await text(count("openai")), await text("[data-provider=openai] dl")]);

  await log("openai");
  await until(count("openai"), /^1$/);
  await log("openai", { success: false });
  await until(count("openai"), /^2$/);
  say("pushed", [await text("[data-provider=openai] dl"), await text(count("groq"))]);

  await page.locator("[data-provider=groq]").getByText("Log a request").click();
  await until(count("groq"), /^1$/);
  const { start } = sent[0][1][0].timeRange;
  const groq = await other.query(api.ai.analytics.getProviderStats, { provider: "groq", timeRange: { start } });
  say("from the page", groq.totalRequests);

  // A skipped query is not even asked for.
  const asked = sent.length;
  say("skipped", [await text("section.today"), new Set(sent.map(([, [args]]) => args.timeRange?.start)).size]);
  await page.locator("[data-provider=openai] .name").click();
  await until("section.today", "2 requests");
  say("no longer", [await text("section.today"), sent.slice(asked).map(([path]) => path)]);
  say("loads", loads);

  // Signing in: the token is held back until what the page says meanwhile has been seen.
  let letGo;
  const held = () => {
    const gate = new Promise((resolve) => (letGo = resolve));
    return page.route("**/sign-in", async (route) => {
      await gate;
      await route.continue();
      await page.unroute("**/sign-in");
    });
  };
  const session = () => text(".session");
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  say("unauthenticated", await session());
  await held();
  await page.getByLabel("Your name").fill("Ann");
  await page.getByRole("button", { name: "Sign in" }).click();
  await until(".session", "Signing in…");
  say("loading", await session());
  letGo();
  await until(".session", "Signed in as");
  say("authenticated", await session());
  await page.screenshot({ path: screenshot, fullPage: true });

  await held();
  await page.reload();
  await until(".session", "Signing in…");
  await until(count("openai"), /^2$/);
  letGo();
  await until(".session", "Signed in as");
  say("remembered", await session());
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  say("signed out", await session());
  say("errors", wrong);
} finally {
  await browser.close();
}
