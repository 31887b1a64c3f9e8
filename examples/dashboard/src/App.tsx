import { useConvexConnectionState } from "convex/react";
import { useState } from "react";
import { Providers } from "./Providers";
import { Today } from "./Today";
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
        <Today provider={chosen} />
      </main>
    </>
  );
}

function Connection() {
  const { isWebSocketConnected } = useConvexConnectionState();
  return <small className={isWebSocketConnected ? "live" : "lost"}>{isWebSocketConnected ? "live" : "connecting…"}</small>;
}
