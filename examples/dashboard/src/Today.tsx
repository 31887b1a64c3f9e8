// More about one provider. Until one is chosen the query is skipped: the server hears nothing of it.
import { useQuery } from "convex/react";
import { api } from "./api";
import { money, percent, whole } from "./format";
import { startOfDay, useMinute } from "./time";

export function Today({ provider }: { provider: string | null }) {
  const start = startOfDay(useMinute());
  const stats = useQuery(
    api.ai.analytics.getProviderStats,
    provider === null ? "skip" : { provider, timeRange: { start } },
  );
  return (
    <section aria-label="Today" className="today">
      {provider === null ? (
        <p>Choose a provider to see its day.</p>
      ) : stats === undefined ? (
        <p>Adding up…</p>
      ) : (
        <p>
          <b>{provider}</b> today: {whole(stats.totalRequests)} requests, {percent(stats.successRate)} succeeded,{" "}
          {money(stats.totalCost)}.
        </p>
      )}
    </section>
  );
}
