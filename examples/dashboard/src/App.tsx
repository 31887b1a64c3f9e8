import { useConvexAuth, useConvexConnectionState } from "convex/react";
import { useState } from "react";
import { Boundary } from "./Boundary";
import { Bots } from "./Bots";
import { Minutes } from "./Minutes";
import { Providers } from "./Providers";
import { Requests } from "./Requests";
import { Session } from "./Session";

export function App() {
  const [chosen, setChosen] = useState<string | null>(null);
  const { isAuthenticated } = useConvexAuth();
  return (
    <>
      <header>
        <h1>
          AI requests <Connection />
        </h1>
        <Session />
      </header>
      <main>
        {/* Somebody else may be let in where the last one was refused: a new boundary tries again. */}
        <Boundary key={String(isAuthenticated)}>
          <Providers chosen={chosen} choose={setChosen} />
          <Minutes provider={chosen} />
          <div className="columns">
            <Requests provider={chosen} />
            <Bots />
          </div>
        </Boundary>
      </main>
    </>
  );
}

function Connection() {
  const { isWebSocketConnected } = useConvexConnectionState();
  return <small className={isWebSocketConnected ? "live" : "lost"}>{isWebSocketConnected ? "live" : "connecting…"}</small>;
}
