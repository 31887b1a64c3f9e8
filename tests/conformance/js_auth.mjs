// Everything an app does with tokens, step by step. Arguments: the server, the issuer. Prints [step, result] for each.
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const [url, issuer] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const mint = async (claims) => (await fetch(`${issuer}/token?${new URLSearchParams({ aud: "app", ...claims })}`)).text();
const client = new ConvexClient(url, { logger: false });
const { me, signUp } = api.who;

// What is waited for is looked at again whenever anything happens.
const waiting = new Set();
const happened = () => waiting.forEach((look) => look());
function until(holds) {
  return new Promise((done) => {
    const look = () => holds() && (waiting.delete(look), done());
    waiting.add(look);
    look();
  });
}

let user, fetches, changes;
client.onUpdate(me, {}, (value) => { user = value; happened(); });

// Log in with tokens of these claims; `fetches` says for each whether it had to be a new one.
function login(claims) {
  fetches = [];
  changes = [];
  client.setAuth(
    async ({ forceRefreshToken }) => {
      fetches.push(forceRefreshToken);
      const token = await mint(claims);
      happened();
      return token;
    },
    (isAuthenticated) => { changes.push(isAuthenticated); happened(); },
  );
}

await until(() => user === null);
say("anonymous", user);

login({ sub: "ann" });
await until(() => user === "ann" && changes.length === 2);
say("login", [user, fetches, changes, await client.mutation(signUp, {})]);

client.client.webSocketManager.socket.ws.close();
say("reconnected", [await client.mutation(signUp, {}), await client.query(me, {}), fetches.length]);

const connections = client.connectionState().connectionCount;
login({ sub: "ann", seconds: 11 });
await until(() => fetches.length >= 3);
await client.mutation(signUp, {});
say("refreshed", [user, client.connectionState().connectionCount - connections, changes.includes(false)]);

login({ sub: "ann", aud: "other" });
await until(() => changes.includes(false) && user === null);
say("rejected", [user, fetches, changes]);

await fetch(`${issuer}/rotate`);
login({ sub: "bob" });
await until(() => user === "bob");
say("rotated", user);

login({ sub: "eve", seconds: -2 });
await until(() => user === "eve" && fetches.length >= 3);
say("expired", [await client.mutation(signUp, {}), changes.includes(false)]);

client.client.clearAuth();
await until(() => user === null);
say("cleared", user);

const http = new ConvexHttpClient(url);
http.setAuth(await mint({ sub: "ann" }));
say("http", await http.query(me, {}));
http.setAuth(await mint({ sub: "ann", aud: "other" }));
say("http refused", await http.query(me, {}).catch(({ message }) => JSON.parse(message).code));
http.clearAuth();
say("http cleared", await http.query(me, {}));

await client.close();
