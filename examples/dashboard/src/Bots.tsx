// What looked like a bot within the last hour, and what was done about it.
import { useMutation, useQuery } from "convex/react";
import { api } from "./api";
import { clock } from "./format";
import { sampleBot } from "./sample";
import { HOUR, useMinute } from "./time";

export function Bots() {
  const events = useQuery(api.ai.analytics.getBotEvents, { since: useMinute() - HOUR, limit: 8 });
  const detect = useMutation(api.ai.analytics.detectBotPatterns);
  return (
    <section aria-label="Bots">
      <h2>Bots</h2>
      {events?.length === 0 && <p className="hint">None within the last hour.</p>}
      <ul className="events">
        {events?.map((event) => (
          <li key={event._id}>
            <span className={event.action === "blocked" ? "action bad" : "action"}>{event.action}</span>
            <span>
              {event.userAgent}
              <small>
                {clock(event.timestamp)} · {event.detectionType.replace("_", " ")} · {event.ip}
              </small>
            </span>
          </li>
        ))}
      </ul>
      <button className="quiet" onClick={() => void detect(sampleBot())}>
        Pretend to be a bot
      </button>
    </section>
  );
}
