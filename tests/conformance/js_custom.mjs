// Functions that want a user, called without one and as one. Prints [step, result] for each call.
import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { ConvexError } from "convex/values";

const [url, key] = process.argv.slice(2);
const say = (step, result) => console.log(JSON.stringify([step, result]));
const failure = (error) => (error instanceof ConvexError ? { data: error.data } : { message: error.message });
const client = new ConvexHttpClient(url, { logger: false });

say("nobody", await client.query(api.notes.mine, {}).catch(failure));
client.setAdminAuth(key, { issuer: "https://convex.test", subject: "ann" });
say("stranger", await client.query(api.notes.mine, {}).catch(failure));
say("joined", typeof (await client.mutation(api.setup.join, {})));
const note = await client.mutation(api.notes.add, { text: "hello" });
say("mine", await client.query(api.notes.mine, {}));
client.setAdminAuth(key, { issuer: "https://convex.test", subject: "bob" });
await client.mutation(api.setup.join, {});
say("bob's", await client.query(api.notes.mine, {}));
say("not his", await client.mutation(api.notes.remove, { note }).catch(failure));
say("not an admin", await client.mutation(api.setup.clear, {}).catch(failure));
say("no key", await client.mutation(api.jobs.start, { name: "a" }).catch(failure));
say("wrong key", await client.mutation(api.jobs.start, { name: "a", apiKey: "x" }).catch(failure));
say("keyed", await client.mutation(api.jobs.start, { name: "a", apiKey: "k" }));
