// Who is signed in, for ConvexProviderWithAuth. The tokens come from the deployment itself (functions/issuer.py), which
// asks for no password. With a provider of your own, its hook takes the place of `useSession`.
import { useCallback, useMemo, useSyncExternalStore } from "react";
import { SITE_URL } from "./server";

type Session = { name: string | null; token: string | null; isLoading: boolean; error: string | null };

const NOBODY: Session = { name: null, token: null, isLoading: false, error: null };
const STORED_NAME = "dashboard.name";
const listeners = new Set<() => void>();
let session = NOBODY;

function change(next: Session) {
  session = next;
  listeners.forEach((listener) => listener());
}

function subscribe(listener: () => void) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

async function fetchToken(name: string): Promise<string> {
  const response = await fetch(`${SITE_URL}/sign-in`, { method: "POST", body: JSON.stringify({ name }) });
  if (!response.ok) throw new Error(await response.text());
  return ((await response.json()) as { token: string }).token;
}

export async function signIn(name: string) {
  change({ ...NOBODY, isLoading: true });
  try {
    change({ ...NOBODY, name, token: await fetchToken(name) });
    localStorage.setItem(STORED_NAME, name);
  } catch (error) {
    change({ ...NOBODY, error: (error as Error).message });
  }
}

export function signOut() {
  localStorage.removeItem(STORED_NAME);
  change(NOBODY);
}

export const useSignInError = () => useSyncExternalStore(subscribe, () => session.error);

export function useSession() {
  const { name, isLoading } = useSyncExternalStore(subscribe, () => session);
  // The client signs in again whenever this function changes, so it changes with the name and with nothing else.
  const fetchAccessToken = useCallback(
    async ({ forceRefreshToken }: { forceRefreshToken: boolean }) => {
      if (name === null) return null;
      return forceRefreshToken ? fetchToken(name).catch(() => null) : session.token;
    },
    [name],
  );
  return useMemo(
    () => ({ isLoading, isAuthenticated: name !== null, fetchAccessToken }),
    [isLoading, name, fetchAccessToken],
  );
}

const storedName = localStorage.getItem(STORED_NAME);
if (storedName !== null) void signIn(storedName);
