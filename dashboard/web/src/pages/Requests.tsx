// Requests: the filter, the histogram, facets and the rows; or the values of one field, counted.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { fieldsQuery, histogramQuery, keyOf, requestsQuery, valuesQuery } from "../api/queries";
import type { RequestRow } from "../api/types";
import { clause, include } from "../lib/filter";
import { count, percent } from "../lib/format";
import { useKeys } from "../lib/keys";
import { Export } from "../ui/Export";
import { Facets } from "../ui/Facets";
import { Histogram } from "../ui/Histogram";
import { Icon } from "../ui/Icon";
import { Raw } from "../ui/Raw";
import { RequestDialog, requestId, RequestTable } from "../ui/RequestTable";
import { Age, Body, Cut, Empty, useStoreAway } from "../ui/States";
import { Toolbar, usePageState, type PageState } from "../ui/Toolbar";
import { useFacets } from "../ui/useFacets";
import { fieldName, openValueMenu, Value } from "../ui/ValueMenu";

export default function Requests() {
  const page = usePageState();
  const facets = useFacets();
  const away = useStoreAway();
  const navigate = useNavigate();
  const query = useInfiniteQuery(requestsQuery(page.q, page.range));
  const histogram = useQuery(histogramQuery(page.q, page.range));
  const rows = useMemo(() => query.data?.pages.flatMap((one) => one.requests) ?? [], [query.data]);
  const [open, setOpen] = useState<RequestRow | null>(null);
  const [exporting, setExporting] = useState(0);
  const selected = page.search.sel;
  const at = rows.findIndex((row) => requestId(row) === selected);
  const move = (step: number) => {
    const row = rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + step))];
    if (row) page.set({ sel: requestId(row) }, true);
  };
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = query;
  const onEnd = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const active = rows[at];
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Enter: () => active && setOpen(active),
    Escape: () => page.set({ sel: undefined }, true),
    f: facets.toggle,
    e: () => setExporting((n) => n + 1),
    c: () => active && void navigate({ to: "/client", search: { ...keyOf(active), from: page.search.from, to: page.search.to } }),
    m: () => {
      const value = document.querySelector<HTMLElement>(`#request-${CSS.escape(selected ?? "")} [data-value]`);
      if (value && active) openValueMenu({ field: "src_ip", value: active.src_ip, client: keyOf(active) }, value);
    },
  });
  const cut = query.data?.pages.find((one) => one.truncated && one.truncated.by !== "rows")?.truncated;
  const by = page.search.by;

  return (
    <>
      <Toolbar title="Requests" state={page} error={query.error}>
        <Export what="requests" q={page.q} range={page.range} opened={exporting} />
      </Toolbar>
      <div className="border-b border-line bg-surface px-2 pt-1">{histogram.data && <Histogram data={histogram.data} stale={histogram.isError || away} page={page} />}</div>
      <div className="flex min-h-80 flex-1">
        {facets.shown && <Facets page={page} />}
        <section aria-label={by ? `Requests by ${fieldName(by)}` : "Requests"} className="flex min-w-0 flex-1 flex-col bg-surface">
          {by ? (
            <Grouped by={by} page={page} />
          ) : (
            <Body query={query as never} rows={16}>
              {() =>
                rows.length === 0 ? (
                  <Empty
                    title={page.q ? "No request passes this filter" : "No requests in this span"}
                    action={
                      page.q ? (
                        <button type="button" className="btn" onClick={() => page.set({ q: undefined })}>
                          Clear the filter
                        </button>
                      ) : undefined
                    }
                  >
                    {page.q ? "Clear a part of it, or widen the time range." : "Widen the time range, or wait for the first requests."}
                  </Empty>
                ) : (
                  <RequestTable
                    label="Requests"
                    rows={rows}
                    selected={selected}
                    onSelect={(id) => page.set({ sel: id }, true)}
                    onOpen={setOpen}
                    onEnd={onEnd}
                    head={
                      <>
                        <button type="button" className="btn btn-sm" aria-pressed={facets.shown} onClick={facets.toggle}>
                          <Icon name="facets" className="size-3.5" />
                          Facets
                        </button>
                        <GroupBy page={page} />
                        <span role="status">
                          {count(rows.length)} of {histogram.data ? count(histogram.data.total) : "…"} loaded, newest first
                        </span>
                        <Age query={query as never} />
                      </>
                    }
                  />
                )
              }
            </Body>
          )}
          <Cut truncated={cut} what="requests" />
        </section>
      </div>
      {open && <RequestDialog row={open} onClose={() => setOpen(null)} />}
    </>
  );
}

function GroupBy({ page }: { page: PageState }) {
  const fields = useQuery(fieldsQuery());
  return (
    <label className="flex items-center gap-1.5">
      group by
      <select className="field h-6 max-w-40 text-xs text-text" value={page.search.by ?? ""} onChange={(event) => page.set({ by: event.target.value || undefined, sel: undefined })}>
        <option value="">nothing</option>
        {(fields.data?.fields ?? [])
          .filter((field) => field.completes)
          .map((field) => (
            <option key={field.name} value={field.name}>
              {fieldName(field.name)}
            </option>
          ))}
      </select>
    </label>
  );
}

/** Most values that are counted at once. */
const VALUES_MAX = 100;

function Grouped({ by, page }: { by: string; page: PageState }) {
  const query = useQuery(valuesQuery(by, "", page.range, page.q, VALUES_MAX));
  const total = (query.data?.values ?? []).reduce((sum, one) => sum + one.requests, 0);
  const most = Math.max(1, ...(query.data?.values ?? []).map((one) => one.requests));
  return (
    <>
      <div className="flex min-h-9 items-center gap-3 border-b border-line px-3 py-1 text-xs text-muted">
        <GroupBy page={page} />
        <button type="button" className="btn btn-sm" onClick={() => page.set({ by: undefined })}>
          <Icon name="left" className="size-3.5" />
          Back to the rows
        </button>
        <Age query={query} />
      </div>
      <Body query={query} rows={12}>
        {(data) =>
          data.values.length === 0 ? (
            <Empty title="No values">No request of this span has a {fieldName(by)}.</Empty>
          ) : (
            <div className="h-full overflow-auto" tabIndex={0} role="group" aria-label={`Values of ${fieldName(by)}`}>
              <table className="w-full text-xs">
                <thead className="sticky top-0 bg-raised">
                  <tr>
                    <th className="th pl-3">{fieldName(by)}</th>
                    <th className="th w-24 text-right">Requests</th>
                    <th className="th w-24 text-right">Share</th>
                    <th className="th w-24 text-right">Addresses</th>
                    <th className="th w-48 pr-3">
                      <span className="sr-only">Bar</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {data.values.map((one) => (
                    <tr key={one.value} className="border-t border-line">
                      <td className="td pl-3">
                        <Value field={by} value={one.value} max={140} className="num" />
                        {one.name && (
                          <span className="ml-2 text-muted">
                            <Raw value={one.name} max={80} />
                          </span>
                        )}
                      </td>
                      <td className="td num text-right">
                        <button type="button" className="link min-h-6" onClick={() => page.set({ by: undefined, q: page.q ? include(page.q, by, one.value) : clause(by, one.value) })}>
                          {count(one.requests)}
                        </button>
                      </td>
                      <td className="td num text-right">{percent(one.requests / total)}</td>
                      <td className="td num text-right">{count(one.clients)}</td>
                      <td aria-hidden="true" className="td pr-3 align-middle">
                        <div className="h-2 overflow-hidden rounded-full bg-raised">
                          <div className="h-full bg-accent" style={{ width: `${(one.requests / most) * 100}%` }} />
                        </div>
                      </td>
                    </tr>
                  ))}
                </tbody>
              </table>
              {data.values.length >= VALUES_MAX && <p className="px-3 py-2 text-xs text-muted">The {VALUES_MAX} most frequent values; shares are of these.</p>}
              <Cut truncated={data.truncated} what="values" />
            </div>
          )
        }
      </Body>
    </>
  );
}
