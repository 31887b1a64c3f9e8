// One card for each provider: the last hour, which grows while you look.
import { useMutation, useQuery } from "convex/react";
import { api } from "./api";
import { money, percent, seconds, whole } from "./format";
import { sampleRequest } from "./sample";
import { HOUR, useMinute } from "./time";

const PROVIDERS = ["openai", "openrouter", "groq", "perplexity", "ollama", "lmstudio"];

type Choice = { chosen: string | null; choose: (provider: string | null) => void };

export function Providers({ chosen, choose }: Choice) {
  return (
    <section aria-label="Providers">
      <h2>Last hour</h2>
      <div className="cards">
        {PROVIDERS.map((provider) => (
          <Provider
            key={provider}
            provider={provider}
            isChosen={provider === chosen}
            toggle={() => choose(provider === chosen ? null : provider)}
          />
        ))}
      </div>
    </section>
  );
}

function Provider({ provider, isChosen, toggle }: { provider: string; isChosen: boolean; toggle: () => void }) {
  // Whoever rounds the start to the minute and leaves the end open shares one live query with everybody else.
  const start = useMinute() - HOUR;
  const stats = useQuery(api.ai.analytics.getProviderStats, { provider, timeRange: { start } });
  const logRequest = useMutation(api.ai.analytics.logAIRequest);
  return (
    <article className={isChosen ? "card chosen" : "card"} data-provider={provider}>
      <button className="name" aria-pressed={isChosen} onClick={toggle}>
        {provider}
      </button>
      <p className="count">{stats ? whole(stats.totalRequests) : "…"}</p>
      <dl>
        <dt>succeeded</dt>
        <dd>{percent(stats?.successRate)}</dd>
        <dt>latency</dt>
        <dd>{seconds(stats?.averageLatency)}</dd>
        <dt>tokens</dt>
        <dd>{whole(stats?.totalTokens)}</dd>
        <dt>cost</dt>
        <dd>{money(stats?.totalCost)}</dd>
      </dl>
      <button className="quiet" onClick={() => void logRequest(sampleRequest(provider))}>
        Log a request
      </button>
    </article>
  );
}
