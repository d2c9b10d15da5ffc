// The head of a page with data: title, search bar, time range. It keeps them in the address.
import { useNavigate, useRouterState } from "@tanstack/react-router";
import { useCallback, useMemo, type ReactNode } from "react";
import { rangeOf, validateSearch, type PageSearch } from "../lib/search";
import type { Range } from "../lib/time";
import { SearchBar } from "./SearchBar";
import { TimeRange } from "./TimeRange";

export interface PageState {
  search: PageSearch;
  q: string;
  range: Range;
  /** Changes some parameters of this page's address; `undefined` takes one out. */
  set: (change: PageSearch, replace?: boolean) => void;
  brush: (from: string, to: string) => void;
}

/** The state of the present page, read from the address and written to it. */
export function usePageState(): PageState {
  const navigate = useNavigate();
  const location = useRouterState({ select: (s) => s.location });
  const search = useMemo(() => validateSearch(location.search as Record<string, unknown>), [location.search]);
  const { pathname } = location;
  const set = useCallback(
    (change: PageSearch, replace = false) => {
      void navigate({ to: pathname, search: (old: Record<string, unknown>) => validateSearch({ ...old, ...change }), replace });
    },
    [navigate, pathname],
  );
  const brush = useCallback((from: string, to: string) => set({ from, to }), [set]);
  const range = useMemo(() => rangeOf(search), [search]);
  return { search, q: search.q ?? "", range, set, brush };
}

interface Props {
  title: string;
  state: PageState;
  error?: unknown;
  children?: ReactNode;
  /** False on pages whose subject is the filter already. */
  filter?: boolean;
}

export function Toolbar({ title, state, error, children, filter = true }: Props) {
  return (
    <div className="flex items-start gap-2 border-b border-line bg-surface px-4 py-2">
      <h1 className={filter ? "sr-only" : "flex-1 self-center text-base font-semibold"}>{title}</h1>
      {filter && <SearchBar q={state.q} range={state.range} error={error} onSearch={(q) => state.set({ q: q || undefined, sel: undefined })} />}
      <TimeRange range={state.range} onChange={(range) => state.set({ from: range.from, to: range.to })} />
      {children}
    </div>
  );
}
