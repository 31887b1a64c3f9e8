// The functions that the page calls, by their names on the server, with the shapes of arguments and results.
import { anyApi, type FunctionReference } from "convex/server";

type Query<Args extends Record<string, unknown>, Result> = FunctionReference<"query", "public", Args, Result>;
type Mutation<Args extends Record<string, unknown>, Result> = FunctionReference<"mutation", "public", Args, Result>;

export type Stats = {
  totalRequests: number;
  successRate: number | null;
  averageLatency: number | null;
  totalTokens: number;
  totalCost: number;
};

export const api = anyApi as unknown as {
  issuer: { viewer: Query<Record<string, never>, { name: string } | null> };
  ai: {
    analytics: {
      getProviderStats: Query<{ provider: string; timeRange: { start: number; end?: number } }, Stats>;
      logAIRequest: Mutation<
        {
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
        },
        null
      >;
    };
  };
};
