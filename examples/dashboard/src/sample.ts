// What a gateway in front of the providers would log.
const between = (low: number, high: number) => Math.round(low + Math.random() * (high - low));

export function sampleRequest(provider: string) {
  const tokensUsed = between(200, 4000);
  return {
    provider,
    model: "sample",
    fingerprint: "dashboard",
    ip: "127.0.0.1",
    success: Math.random() < 0.95,
    latencyMs: between(200, 3000),
    tokensUsed,
    cost: tokensUsed * 2e-6,
  };
}

export const sampleBot = () => ({
  fingerprint: "dashboard",
  ip: "127.0.0.1",
  userAgent: "curl/8.5.0",
  detectionType: "bot_useragent" as const,
});
