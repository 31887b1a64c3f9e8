// The page of examples/dashboard in a real browser, and another client that writes what the page shows.
// Arguments: the page, the server, its admin key, Chromium, a file for the screenshot. Prints [step, result] for each.
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { chromium } from "playwright-core";

const [pageUrl, serverUrl, adminKey, executablePath, screenshot] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));

const other = new ConvexHttpClient(serverUrl, { logger: false });
const client = { fingerprint: "f", ip: "10.0.0.1" };
const request = { ...client, model: "m", success: true, latencyMs: 1500, tokensUsed: 1000, cost: 0.25 };
const log = (provider, more = {}) =>
  other.mutation(api.ai.analytics.logAIRequest, { ...request, provider, ...more });
const noticeBot = () =>
  other.mutation(api.ai.analytics.detectBotPatterns, { ...client, userAgent: "Bot/1", detectionType: "ai_scraper" });

for (let number = 0; number < 20; number++) await log("ollama", { model: `m${number}` });

const flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking";
const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [...flags.split(" "), "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1120, height: 960 } });
  page.setDefaultTimeout(30_000);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  let loads = 0;
  page.on("load", () => loads++);
  const asked = []; // the queries that the page subscribed to
  page.on("websocket", (socket) =>
    socket.on("framesent", ({ payload }) => {
      const { modifications = [] } = JSON.parse(payload);
      asked.push(...modifications.filter(({ type }) => type === "Add").map(({ udfPath }) => udfPath));
    }),
  );

  const text = (selector) => page.locator(selector).innerText();
  const until = (selector, wanted) => page.locator(selector, { hasText: wanted }).first().waitFor();
  const card = (provider) => `[data-provider=${provider}]`;
  const count = (provider) => `${card(provider)} .count`;
  const rows = page.locator("tbody tr");
  const untilRows = (number) => rows.nth(number - 1).waitFor();

  await page.goto(pageUrl);
  await until("h1 small", "live");
  await until(count("openai"), /^0$/);
  await until("section[aria-label=Bots]", "None within the last hour.");
  say("at first", [await text(`${card("openai")} dl`), await text(count("ollama"))]);

  await log("openai");
  await until(count("openai"), /^1$/);
  await log("openai", { success: false, error: "overloaded" });
  await until(count("openai"), /^2$/);
  say("pushed", [await text(`${card("openai")} dl`), await text(count("groq"))]);

  await page.locator(card("groq")).getByText("Log a request").click();
  await until(count("groq"), /^1$/);
  const groq = { provider: "groq", timeRange: { start: 0 } };
  say("from the page", (await other.query(api.ai.analytics.getProviderStats, groq)).totalRequests);

  for (let number = 0; number < 12; number++) await noticeBot();
  await until(".events li:first-child", "blocked");
  say("bots", await page.locator(".events .action").allInnerTexts());

  // Pages keep their ends: the first one began with eight and has what was logged since on top.
  await untilRows(11);
  const models = async () => (await page.locator("tbody td:nth-child(3)").allInnerTexts()).join(" ");
  say("first page", [await rows.count(), await models()]);
  await page.getByRole("button", { name: "Load more" }).click();
  await untilRows(19);
  say("second page", await rows.count());
  await page.getByRole("button", { name: "Load more" }).click();
  await until("section[aria-label=Requests]", "That is all.");
  say("last page", [await rows.count(), await rows.last().locator("td").nth(2).innerText()]);

  // A skipped query is not even asked for.
  const minutes = () => asked.filter((path) => path === "monitoring:providerMinutes").length;
  say("skipped", [await text("main > .hint"), minutes()]);
  await page.locator(`${card("openai")} .name`).click();
  await until("figcaption", "openai: 2 requests");
  await until("section[aria-label=Requests]", "That is all.");
  say("asked for", [minutes() > 0, await page.locator("tbody td:last-child").allInnerTexts()]);
  await log("openai");
  await until("figcaption", "openai: 3 requests");
  await untilRows(3);
  say("loads", loads);

  // Signing in: the token is held back until what the page says meanwhile has been seen.
  const held = async () => {
    let letGo;
    const gate = new Promise((resolve) => (letGo = resolve));
    await page.route("**/sign-in", (route) => gate.then(() => route.continue()), { times: 1 });
    return letGo;
  };
  const session = () => text(".session");
  await page.getByRole("button", { name: "Sign in" }).waitFor();
  say("unauthenticated", await session());
  let letGo = await held();
  await page.getByLabel("Your name").fill("Ann");
  await page.getByRole("button", { name: "Sign in" }).click();
  await until(".session", "Signing in…");
  say("loading", await session());
  letGo();
  await until(".session", "Signed in as Ann");
  say("authenticated", await session());
  await page.screenshot({ path: screenshot, fullPage: true });

  letGo = await held();
  await page.reload();
  await until(".session", "Signing in…");
  letGo();
  await until(".session", "Signed in as Ann");
  say("remembered", await session());
  say("errors", wrong);

  // From here on a caller needs a scope, which the token has and nobody else.
  await fetch(`${serverUrl}/api/update_environment_variables`, {
    method: "POST",
    headers: { Authorization: `Convex ${adminKey}`, "Content-Type": "application/json" },
    body: JSON.stringify({ changes: [{ name: "AI_PUBLIC_LOGGING", value: "false" }] }),
  });
  await page.locator(card("groq")).getByText("Log a request").click();
  await until(count("groq"), /^2$/);
  say("with a scope", await text(count("groq")));
  await page.getByRole("button", { name: "Sign out" }).click();
  await until("main [role=alert]", "This function takes an admin key");
  say("signed out", await session());
  await page.getByLabel("Your name").fill("Bob");
  await page.getByRole("button", { name: "Sign in" }).click();
  await until(".session [role=alert]", "There is no sign-in without a provider");
  say("refused", await session());
} finally {
  await browser.close();
}
