// Users of a deployment that is its own issuer. Arguments: the server, its HTTP actions. Prints [step, result] for each.
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";

const [url, site] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const login = async (name) => (await fetch(`${site}/login`, { method: "POST", body: name })).text();
const { me, signUp } = api.who;

const client = new ConvexClient(url, { logger: false });
let told;
const news = () => new Promise((resolve) => (told = resolve));
let next = news();
client.onUpdate(me, {}, (value) => told(value));
say("anonymous", await next);

next = news();
client.setAuth(() => login("ann"));
say("logged in", await next);
say("mutation", await client.mutation(signUp, {}));

const http = new ConvexHttpClient(url);
http.setAuth(await login("bob"));
say("http", await http.query(me, {}));
const answer = await fetch(`${site}/me`, { headers: { Authorization: `Bearer ${await login("eve")}` } });
say("http action", await answer.text());
await client.close();
