// The last hour of one provider, minute by minute. Until one is chosen the query is skipped: the server hears nothing.
import { useQuery } from "convex/react";
import { api } from "./api";
import { clock, seconds, whole } from "./format";
import { HOUR, MINUTE, useMinute } from "./time";

export function Minutes({ provider }: { provider: string | null }) {
  const now = useMinute();
  const start = now - HOUR + MINUTE;
  const found = useQuery(
    api.monitoring.providerMinutes,
    provider === null ? "skip" : { provider, timeRange: { start } },
  );
  if (provider === null) return <p className="hint">Choose a provider to see its minutes.</p>;
  if (found === undefined) return <p className="hint">Adding up…</p>;

  const busiest = Math.max(1, ...found.map(({ totalRequests }) => totalRequests));
  const total = found.reduce((sum, { totalRequests }) => sum + totalRequests, 0);
  const slowest = Math.max(0, ...found.map(({ p95Latency }) => p95Latency ?? 0));
  return (
    <figure className="minutes">
      <svg viewBox="0 0 60 12" preserveAspectRatio="none" role="img" aria-label={`Requests of ${provider} per minute`}>
        {found.map(({ minute, totalRequests }) => {
          const height = (totalRequests / busiest) * 12;
          return (
            <rect key={minute} x={(minute - start) / MINUTE + 0.1} y={12 - height} width={0.8} height={height}>
              <title>{`${clock(minute)}: ${totalRequests}`}</title>
            </rect>
          );
        })}
      </svg>
      <figcaption>
        <b>{provider}</b>: {whole(total)} requests since {clock(start)}, at most {whole(busiest)} a minute; 95 % within{" "}
        {seconds(slowest)} in the slowest one.
      </figcaption>
    </figure>
  );
}
