import { useEffect, useState } from "react";

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;

const thisMinute = () => Math.floor(Date.now() / MINUTE) * MINUTE;

/** The minute it is, in milliseconds since 1970. */
export function useMinute(): number {
  const [minute, setMinute] = useState(thisMinute);
  useEffect(() => {
    const timer = setInterval(() => setMinute(thisMinute()), 1000);
    return () => clearInterval(timer);
  }, []);
  return minute;
}
