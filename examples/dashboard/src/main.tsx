import { ConvexProviderWithAuth, ConvexReactClient } from "convex/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { SERVER_URL } from "./server";
import { useSession } from "./auth";
import "./style.css";

const convex = new ConvexReactClient(SERVER_URL);

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <ConvexProviderWithAuth client={convex} useAuth={useSession}>
      <App />
    </ConvexProviderWithAuth>
  </StrictMode>,
);
