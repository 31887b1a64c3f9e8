// The latest requests, a page at a time. New ones appear on top while older pages stay as they are.
import { usePaginatedQuery } from "convex/react";
import { api } from "./api";
import { clock, money, seconds, whole } from "./format";

const PAGE = 8;

export function Requests({ provider }: { provider: string | null }) {
  const args = provider === null ? {} : { provider };
  const { results, status, loadMore } = usePaginatedQuery(api.monitoring.recentRequests, args, {
    initialNumItems: PAGE,
  });
  return (
    <section aria-label="Requests">
      <h2>Requests {provider !== null && `of ${provider}`}</h2>
      <table>
        <thead>
          <tr>
            <th>time</th>
            <th>provider</th>
            <th>model</th>
            <th className="number">latency</th>
            <th className="number">tokens</th>
            <th className="number">cost</th>
            <th>outcome</th>
          </tr>
        </thead>
        <tbody>
          {results.map((request) => (
            <tr key={request._id}>
              <td>{clock(request.timestamp)}</td>
              <td>{request.provider}</td>
              <td>{request.model}</td>
              <td className="number">{seconds(request.latencyMs)}</td>
              <td className="number">{whole(request.tokensUsed)}</td>
              <td className="number">{money(request.cost)}</td>
              <td className={request.success ? "good" : "bad"}>{request.success ? "ok" : (request.error ?? "failed")}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {status === "CanLoadMore" && <button onClick={() => loadMore(PAGE)}>Load more</button>}
      {status === "Exhausted" && <p className="hint">{results.length === 0 ? "No requests yet." : "That is all."}</p>}
      {(status === "LoadingFirstPage" || status === "LoadingMore") && <p className="hint">Loading…</p>}
    </section>
  );
}
