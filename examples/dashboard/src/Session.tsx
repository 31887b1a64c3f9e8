// Signing in and out, and what to show meanwhile.
import { Authenticated, AuthLoading, Unauthenticated, useQuery } from "convex/react";
import { api } from "./api";
import { signIn, signOut, useSignInError } from "./auth";

export function Session() {
  return (
    <div className="session">
      <AuthLoading>Signing in…</AuthLoading>
      <Unauthenticated>
        <SignIn />
      </Unauthenticated>
      <Authenticated>
        <Viewer />
        <button onClick={signOut}>Sign out</button>
      </Authenticated>
    </div>
  );
}

function SignIn() {
  const error = useSignInError();
  return (
    <form action={(form) => void signIn(String(form.get("name")))}>
      {error && <span role="alert">{error}</span>}
      <input name="name" aria-label="Your name" placeholder="Your name" required maxLength={40} pattern=".*\S.*" />
      <button>Sign in</button>
    </form>
  );
}

function Viewer() {
  const viewer = useQuery(api.issuer.viewer);
  return <span>{viewer ? `Signed in as ${viewer.name}` : "…"}</span>;
}
