// What a panel shows when it has nothing to show, not yet, not any more, or not all: each state is said in words.
import { useQuery, type UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Problem } from "../api/client";
import { isWrong, statusQuery } from "../api/queries";
import { count } from "../lib/format";
import { ago } from "../lib/time";
import { useNow } from "../lib/now";
import { Icon } from "./Icon";

export function Loading({ rows = 4, label = "Loading" }: { rows?: number; label?: string }) {
  return (
    <div role="status" aria-label={label} className="flex flex-col gap-2 p-3">
      {Array.from({ length: rows }, (_, i) => (
        <div key={`row-${i}`} className="h-5 animate-pulse rounded bg-raised" style={{ width: `${92 - ((i * 17) % 40)}%` }} />
      ))}
    </div>
  );
}

export function Empty({ title, children, action }: { title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <div className="flex flex-col items-center gap-1.5 px-6 py-8 text-center">
      <p className="text-sm font-semibold">{title}</p>
      {children && <div className="max-w-prose text-sm text-muted">{children}</div>}
      {action && <div className="mt-2 flex gap-2">{action}</div>}
    </div>
  );
}

/** What went wrong, in one line for a reader. */
export function reasonOf(error: unknown): string {
  if (error instanceof Problem) return error.detail;
  return "the dashboard does not answer";
}

export function Failed({ error, retry }: { error: unknown; retry?: () => void }) {
  if (error instanceof Problem && error.code === "bad_filter") return <Empty title="The filter cannot be read">The mark under the search bar shows where. Nothing is asked until it is right.</Empty>;
  const wrong = isWrong(error);
  return (
    <div role="alert" className="flex flex-col items-center gap-2 px-6 py-8 text-center">
      <Icon name="alert" className="size-6 text-alert" />
      <p className="text-sm font-semibold">This could not be read</p>
      <p className="max-w-prose text-sm wrap-anywhere text-muted">{reasonOf(error)}</p>
      {!wrong && <p className="text-xs text-muted">It is tried again by itself.</p>}
      {retry && !wrong && (
        <button type="button" className="btn btn-sm" onClick={retry}>
          <Icon name="refresh" />
          Try now
        </button>
      )}
    </div>
  );
}

/** What a limit cut off, and what to do about it. */
export function Cut({ truncated, what = "rows" }: { truncated?: { by: string; limit: number } | null; what?: string }) {
  if (!truncated) return null;
  return (
    <p className="flex items-center gap-2 border-t border-warn/40 bg-warn-soft px-3 py-1.5 text-xs text-warn">
      <Icon name="alert" />
      Cut by the limit of {truncated.by.replaceAll("_", " ")} ({count(truncated.limit)}): there are more {what}. Narrow the time or the filter to see them.
    </p>
  );
}

interface PanelProps<T> {
  title?: string;
  /** Level 2 unless the panel lies inside another. */
  query: UseQueryResult<T>;
  actions?: ReactNode;
  children: (data: T) => ReactNode;
  className?: string;
  rows?: number;
}

/** A card around a query: loading, failed, stale and cut off are handled here, once. */
export function Panel<T>({ title, query, actions, children, className = "", rows }: PanelProps<T>) {
  return (
    <section aria-label={title} className={`card flex min-w-0 flex-col overflow-hidden ${className}`}>
      {title && (
        <header className="flex min-h-9 flex-wrap items-center gap-2 border-b border-line px-3 py-1">
          <h2 className="text-sm font-semibold">{title}</h2>
          <span className="flex-1" />
          <Age query={query} />
          {actions}
        </header>
      )}
      <Body query={query} rows={rows}>
        {children}
      </Body>
    </section>
  );
}

/** Whether the store is known to be away: what is shown is old from that moment on, not from the next question. */
export function useStoreAway(): boolean {
  const status = useQuery({ ...statusQuery(), enabled: false });
  return status.isError || status.data?.store.state === "unreachable";
}

export function Body<T>({ query, children, rows }: { query: UseQueryResult<T>; children: (data: T) => ReactNode; rows?: number }) {
  const away = useStoreAway();
  if (query.data === undefined) return query.isError ? <Failed error={query.error} retry={() => void query.refetch()} /> : <Loading rows={rows} />;
  return <div className={`h-full min-h-0 min-w-0 flex-1 ${query.isError || away ? "stale" : ""}`}>{children(query.data)}</div>;
}

/** Says how old the data is once it is no longer fresh. */
export function Age<T>({ query }: { query: UseQueryResult<T> }) {
  const now = useNow();
  const away = useStoreAway();
  if (!(query.isError || away) || query.data === undefined) return null;
  return (
    <span className="chip bg-warn-soft text-warn" title={query.isError ? reasonOf(query.error) : "the store does not answer"}>
      <Icon name="clock" className="size-3" />
      as of {ago(query.dataUpdatedAt, now)}
    </span>
  );
}
