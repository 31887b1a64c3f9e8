// The functions that the page calls, by their names on the server, with the shapes of arguments and results.
import { anyApi, type FunctionReference, type PaginationOptions, type PaginationResult } from "convex/server";

type Query<Args extends Record<string, unknown>, Result> = FunctionReference<"query", "public", Args, Result>;
type Mutation<Args extends Record<string, unknown>, Result> = FunctionReference<"mutation", "public", Args, Result>;

export type Stats = {
  totalRequests: number;
  successRate: number | null;
  averageLatency: number | null;
  totalTokens: number;
  totalCost: number;
};
export type Minute = Stats & { minute: number; p95Latency: number | null };

export type NewRequest = {
  provider: string;
  model: string;
  userId?: string;
  fingerprint: string;
  ip: string;
  success: boolean;
  error?: string;
  tokensUsed?: number;
  latencyMs: number;
  cost?: number;
};
export type Request = NewRequest & { _id: string; _creationTime: number; timestamp: number };

export type NewBotEvent = {
  fingerprint: string;
  ip: string;
  userAgent: string;
  detectionType: "bot_useragent" | "ai_scraper" | "suspicious_pattern" | "rate_limit";
};
export type BotAction = "blocked" | "challenged" | "allowed";
export type BotEvent = NewBotEvent & { _id: string; _creationTime: number; timestamp: number; action: BotAction };

export const api = anyApi as unknown as {
  issuer: { viewer: Query<Record<string, never>, { name: string } | null> };
  ai: {
    analytics: {
      getProviderStats: Query<{ provider: string; timeRange: { start: number; end?: number } }, Stats>;
      logAIRequest: Mutation<NewRequest, null>;
      detectBotPatterns: Mutation<NewBotEvent, { action: BotAction; previousAttempts: number }>;
      getBotEvents: Query<{ since?: number; limit?: number }, BotEvent[]>;
    };
  };
  monitoring: {
    providerMinutes: Query<{ provider: string; timeRange: { start: number; end?: number } }, Minute[]>;
    recentRequests: Query<{ provider?: string; paginationOpts: PaginationOptions }, PaginationResult<Request>>;
  };
};
