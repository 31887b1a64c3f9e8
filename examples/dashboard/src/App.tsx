import { useConvexConnectionState } from "convex/react";
import { useState } from "react";
import { Bots } from "./Bots";
import { Minutes } from "./Minutes";
import { Providers } from "./Providers";
import { Requests } from "./Requests";
import { Session } from "./Session";

export function App() {
  const [chosen, setChosen] = useState<string | null>(null);
  return (
    <>
      <header>
        <h1>
          AI requests <Connection />
        </h1>
        <Session />
      </header>
      <main>
        <Providers chosen={chosen} choose={setChosen} />
        <Minutes provider={chosen} />
        <div className="columns">
          <Requests provider={chosen} />
          <Bots />
        </div>
      </main>
    </>
  );
}

function Connection() {
  const { isWebSocketConnected } = useConvexConnectionState();
  return <small className={isWebSocketConnected ? "live" : "lost"}>{isWebSocketConnected ? "live" : "connecting…"}</small>;
}
