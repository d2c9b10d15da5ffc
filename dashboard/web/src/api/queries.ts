// Every question to the API, once: its key, how often it is asked anew, and the acts.
import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query";
import { isRelative, type Range } from "../lib/time";
import { api, Problem, unwrap } from "./client";
import type { ClientKey, ClientSort, GroupKind, LabelKind, RulesFormat, RulesMatch } from "./types";

/** How often the state strip is asked for. Short, so that a store that comes back is seen soon. */
const STATUS_MS = 5_000;
/** How often a page whose range ends now is asked for anew. */
const REFRESH_MS = 15_000;
/** How soon a question that failed is asked again. */
const RETRY_MS = 5_000;
/** Rows of one page of a list. */
const PAGE_ROWS = 200;

interface Asked {
  state: { status: string; error: Error | null };
}

/** Whether asking the same again can help: not where the question itself is wrong. */
export const isWrong = (error: unknown): boolean => error instanceof Problem && error.status >= 400 && error.status < 500;

/** Asks anew after a failure that may pass. */
const afterFailure = ({ state }: Asked) => (state.status === "error" && !isWrong(state.error) ? RETRY_MS : false);

/** Asks anew while the range moves with the clock, and after a failure that may pass. */
const refresh = (range: Range) => (query: Asked) => (query.state.status === "error" ? afterFailure(query) : isRelative(range) ? REFRESH_MS : false);

const ends = (range: Range) => ({ from: range.from, to: range.to });
const filter = (q: string) => (q === "" ? {} : { q });

export const meQuery = () => queryOptions({ queryKey: ["me"], queryFn: () => unwrap(api.GET("/api/v1/auth/me")), staleTime: Infinity, refetchInterval: afterFailure });

export const statusQuery = () => queryOptions({ queryKey: ["status"], queryFn: () => unwrap(api.GET("/api/v1/status")), refetchInterval: STATUS_MS, staleTime: 0, retry: false });

export const fieldsQuery = () => queryOptions({ queryKey: ["fields"], queryFn: () => unwrap(api.GET("/api/v1/fields")), staleTime: Infinity });

export const valuesQuery = (field: string, prefix: string, range: Range, q = "", limit = 12) =>
  queryOptions({
    queryKey: ["values", field, prefix, range, q, limit],
    queryFn: () => unwrap(api.GET("/api/v1/values", { params: { query: { field, ...(prefix ? { prefix } : {}), ...ends(range), ...filter(q), limit } } })),
    placeholderData: keepPreviousData,
    staleTime: 30_000,
  });

export const overviewQuery = (q: string, range: Range) =>
  queryOptions({
    queryKey: ["overview", q, range],
    queryFn: () => unwrap(api.GET("/api/v1/overview", { params: { query: { ...ends(range), ...filter(q) } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const histogramQuery = (q: string, range: Range) =>
  queryOptions({
    queryKey: ["histogram", q, range],
    queryFn: () => unwrap(api.GET("/api/v1/histogram", { params: { query: { ...ends(range), ...filter(q) } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const facetsQuery = (q: string, range: Range) =>
  queryOptions({
    queryKey: ["facets", q, range],
    queryFn: () => unwrap(api.GET("/api/v1/facets", { params: { query: { ...ends(range), ...filter(q) } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const clientsQuery = (q: string, range: Range, sort: ClientSort, limit = PAGE_ROWS) =>
  infiniteQueryOptions({
    queryKey: ["clients", q, range, sort, limit],
    queryFn: ({ pageParam }) => unwrap(api.GET("/api/v1/clients", { params: { query: { ...ends(range), ...filter(q), sort, limit, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    initialPageParam: "",
    getNextPageParam: (last) => last.next_cursor,
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const clientQuery = (key: ClientKey, range: Range) =>
  queryOptions({
    queryKey: ["client", key, range],
    queryFn: () => unwrap(api.GET("/api/v1/client", { params: { query: { ...key, ...ends(range) } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const timelineQuery = (key: ClientKey, range: Range) =>
  queryOptions({
    queryKey: ["client", key, "timeline", range],
    queryFn: () => unwrap(api.GET("/api/v1/client/timeline", { params: { query: { ...key, ...ends(range) } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const scoresQuery = (key: ClientKey, range: Range) =>
  queryOptions({
    queryKey: ["client", key, "scores", range],
    queryFn: () => unwrap(api.GET("/api/v1/client/scores", { params: { query: { ...key, ...ends(range) } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const clientRequestsQuery = (key: ClientKey, q: string, range: Range) =>
  infiniteQueryOptions({
    queryKey: ["client", key, "requests", q, range],
    queryFn: ({ pageParam }) =>
      unwrap(api.GET("/api/v1/client/requests", { params: { query: { ...key, ...ends(range), ...filter(q), limit: PAGE_ROWS, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    initialPageParam: "",
    getNextPageParam: (last) => last.next_cursor,
    placeholderData: keepPreviousData,
    // A list that somebody reads does not move under them; only a failure is asked again.
    refetchInterval: afterFailure,
  });

export const requestsQuery = (q: string, range: Range) =>
  infiniteQueryOptions({
    queryKey: ["requests", q, range],
    queryFn: ({ pageParam }) => unwrap(api.GET("/api/v1/requests", { params: { query: { ...ends(range), ...filter(q), limit: PAGE_ROWS, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    initialPageParam: "",
    getNextPageParam: (last) => last.next_cursor,
    placeholderData: keepPreviousData,
    refetchInterval: afterFailure,
  });

export const requestQuery = (row: { ts: string; src_ip: string; boot: string; seq: string }) =>
  queryOptions({
    queryKey: ["request", row.boot, row.seq],
    queryFn: () => unwrap(api.GET("/api/v1/request", { params: { query: { ts: row.ts, src_ip: row.src_ip, boot: row.boot, seq: row.seq } } })),
    staleTime: Infinity,
  });

export const groupQuery = (kind: GroupKind, value: string, range: Range) =>
  queryOptions({
    queryKey: ["group", kind, value, range],
    queryFn: () => unwrap(api.GET("/api/v1/group", { params: { query: { kind, value, ...ends(range) } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const auditQuery = (range: Range) =>
  queryOptions({
    queryKey: ["audit", range],
    queryFn: () => unwrap(api.GET("/api/v1/audit", { params: { query: { ...ends(range), limit: 1000 } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const labelsQuery = (range: Range) =>
  queryOptions({
    queryKey: ["labels", range],
    queryFn: () => unwrap(api.GET("/api/v1/labels", { params: { query: { ...ends(range), limit: 1000 } } })),
    placeholderData: keepPreviousData,
    refetchInterval: refresh(range),
  });

export const truthQuery = () => queryOptions({ queryKey: ["truth"], queryFn: () => unwrap(api.GET("/api/v1/truth")), refetchInterval: REFRESH_MS });

export const login = (user: string, password: string) => unwrap(api.POST("/api/v1/auth/login", { body: { user, password } }));
export const loginByLink = (token: string) => unwrap(api.POST("/api/v1/auth/link", { body: { token } }));
export const logout = () => unwrap(api.POST("/api/v1/auth/logout"));
export const setPassword = (next: string, current?: string) => unwrap(api.POST("/api/v1/auth/password", { body: { new: next, ...(current ? { current } : {}) } }));

export const label = (clients: ClientKey[], verdict: LabelKind, note: string, expires_at: string | null) =>
  unwrap(api.POST("/api/v1/labels", { body: { clients, label: verdict, note, expires_at } }));
export const undoLabel = (act_id: string) => unwrap(api.POST("/api/v1/labels/undo", { body: { act_id } }));
export const makeRules = (clients: ClientKey[], format: RulesFormat, match: RulesMatch) => unwrap(api.POST("/api/v1/rules", { body: { clients, format, match } }));

/** Address of a download of exactly what is filtered. */
export function exportUrl(what: "clients" | "requests", format: "csv" | "ndjson", q: string, range: Range, sort?: ClientSort): string {
  const params = new URLSearchParams({ format, ...ends(range) });
  if (q !== "") params.set("q", q);
  if (sort) params.set("sort", sort);
  return `/api/v1/export/${what}?${params.toString()}`;
}

export const keyOf = (client: ClientKey): ClientKey => ({ src_ip: client.src_ip, ja4: client.ja4, host: client.host });
