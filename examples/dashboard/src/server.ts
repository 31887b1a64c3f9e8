// Where the server is: `reactor dev`, unless the environment of the build names another.
export const SERVER_URL: string = import.meta.env.VITE_CONVEX_URL ?? "http://127.0.0.1:3210";
export const SITE_URL: string = import.meta.env.VITE_CONVEX_SITE_URL ?? "http://127.0.0.1:3211";
