// Triage: clients by evidence, reasons in the row, the chosen one in a side panel, verdicts by key.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { clientsQuery, histogramQuery, keyOf, statusQuery } from "../api/queries";
import type { ClientKey, ClientRow, ClientSort } from "../api/types";
import { requestsFilter } from "../lib/filter";
import { count } from "../lib/format";
import { useKeys } from "../lib/keys";
import { useNow } from "../lib/now";
import { usePrefs } from "../lib/prefs";
import { ago, stamp } from "../lib/time";
import { ClientList } from "../ui/ClientList";
import { Export } from "../ui/Export";
import { Facets } from "../ui/Facets";
import { Histogram } from "../ui/Histogram";
import { Icon } from "../ui/Icon";
import { Models } from "../ui/Models";
import { Raw } from "../ui/Raw";
import { ReasonList } from "../ui/Reasons";
import { RulesDialog } from "../ui/lazy";
import { Age, Body, Cut, Empty, useStoreAway } from "../ui/States";
import { Toolbar, usePageState, type PageState } from "../ui/Toolbar";
import { useFacets } from "../ui/useFacets";
import { openValueMenu, Value } from "../ui/ValueMenu";
import { RecordedChip, VerdictChip } from "../ui/Verdict";
import { LabelLine, useVerdicts, VerdictButtons, verdictKeys } from "../ui/Verdicts";

const SORTS: readonly { sort: ClientSort; text: string }[] = [
  { sort: "evidence", text: "most evidence" },
  { sort: "requests", text: "most requests" },
  { sort: "errors", text: "most errors" },
  { sort: "last_seen", text: "last seen" },
  { sort: "first_seen", text: "first seen last" },
];

export default function Triage() {
  const page = usePageState();
  const facets = useFacets();
  const away = useStoreAway();
  const navigate = useNavigate();
  const sort = SORTS.find((one) => one.sort === page.search.sort)?.sort ?? "evidence";
  const query = useInfiniteQuery(clientsQuery(page.q, page.range, sort));
  const histogram = useQuery(histogramQuery(page.q, page.range));
  const rows = useMemo(() => query.data?.pages.flatMap((one) => one.clients) ?? [], [query.data]);
  const [checked, setChecked] = useState<ReadonlyMap<string, ClientKey>>(new Map());
  const [rules, setRules] = useState<ClientKey[] | null>(null);
  const [exporting, setExporting] = useState(0);
  const verdicts = useVerdicts();
  const at = rows.findIndex((row) => row.entity_id === page.search.sel);
  const active = rows[at];
  const checkedIds = useMemo(() => new Set(checked.keys()), [checked]);

  const select = useCallback((row: ClientRow | undefined) => row && page.set({ sel: row.entity_id }, true), [page]);
  const open = useCallback((row: ClientRow) => void navigate({ to: "/client", search: { ...keyOf(row), from: page.search.from, to: page.search.to } }), [navigate, page.search.from, page.search.to]);
  const move = (step: number) => select(rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + step))]);
  const toggle = (row: ClientRow) => {
    const next = new Map(checked);
    if (!next.delete(row.entity_id)) next.set(row.entity_id, keyOf(row));
    setChecked(next);
  };
  /** The selected clients, or the one under the cursor. */
  const subjects = (): ClientKey[] => (checked.size > 0 ? [...checked.values()] : active ? [keyOf(active)] : []);
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = query;
  const onEnd = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);

  useKeys({
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Enter: () => active && open(active),
    Escape: () => (checked.size > 0 ? setChecked(new Map()) : page.set({ sel: undefined }, true)),
    x: () => active && toggle(active),
    X: () => setChecked(checked.size === rows.length ? new Map() : new Map(rows.map((row) => [row.entity_id, keyOf(row)]))),
    f: facets.toggle,
    e: () => setExporting((n) => n + 1),
    w: () => subjects().length > 0 && setRules(subjects()),
    r: () => active && void navigate({ to: "/requests", search: { q: requestsFilter(active), from: page.search.from, to: page.search.to } }),
    m: () => {
      const value = document.querySelector<HTMLElement>(`#client-${CSS.escape(page.search.sel ?? "")} [data-value]`);
      if (value && active) openValueMenu({ field: "src_ip", value: active.src_ip, client: keyOf(active) }, value);
    },
    ...verdictKeys(subjects, verdicts),
  });

  const first = query.data?.pages[0];
  const cut = query.data?.pages.find((one) => one.truncated && one.truncated.by !== "rows")?.truncated;
  return (
    <>
      <Toolbar title="Triage" state={page} error={query.error}>
        <Export what="clients" q={page.q} range={page.range} sort={sort} opened={exporting} />
      </Toolbar>
      <div className="border-b border-line bg-surface px-2 pt-1">
        {histogram.data && <Histogram data={histogram.data} stale={histogram.isError || away} page={page} />}
      </div>
      <div className="flex min-h-80 flex-1">
        {facets.shown && <Facets page={page} />}
        <section aria-label="Clients" className="flex min-w-0 flex-1 flex-col">
          <div className="flex min-h-10 flex-wrap items-center gap-2 border-b border-line bg-surface px-3 py-1 text-xs text-muted">
            <button type="button" className="btn btn-sm" aria-pressed={facets.shown} onClick={facets.toggle}>
              <Icon name="facets" className="size-3.5" />
              Facets
            </button>
            {checked.size > 0 ? (
              <>
                <strong className="text-text">{count(checked.size)} selected</strong>
                <VerdictButtons clients={[...checked.values()]} onGive={verdicts.give} compact />
                <button type="button" className="btn btn-sm" onClick={() => setRules([...checked.values()])}>
                  <Icon name="shield" className="size-3.5" />
                  Now what
                </button>
                <button type="button" className="btn btn-quiet btn-sm" onClick={() => setChecked(new Map())}>
                  Clear
                </button>
              </>
            ) : (
              <>
                <span role="status">{first ? `${count(rows.length)}${hasNextPage ? " and more" : ""} ${rows.length === 1 ? "client" : "clients"}` : "Loading clients…"}</span>
                <label className="flex items-center gap-1.5">
                  by
                  <select className="field h-6 text-xs text-text" value={sort} onChange={(event) => page.set({ sort: event.target.value === "evidence" ? undefined : event.target.value, sel: undefined })}>
                    {SORTS.map((one) => (
                      <option key={one.sort} value={one.sort}>
                        {one.text}
                      </option>
                    ))}
                  </select>
                </label>
              </>
            )}
            <span className="flex-1" />
            <Age query={query as never} />
            <span className="hidden lg:inline">
              <kbd className="kbd">j</kbd> <kbd className="kbd">k</kbd> move <kbd className="kbd">Enter</kbd> open <kbd className="kbd">1</kbd>–<kbd className="kbd">4</kbd> verdict <kbd className="kbd">?</kbd> all keys
            </span>
          </div>
          <div className="min-h-0 flex-1">
            <Body query={query as never} rows={12}>
              {() =>
                rows.length === 0 ? (
                  <NoClients page={page} />
                ) : (
                  <ClientList label="Clients" rows={rows} selected={page.search.sel} onSelect={select} onOpen={open} checked={checkedIds} onCheck={toggle} onEnd={onEnd} />
                )
              }
            </Body>
          </div>
          <Cut truncated={cut} what="clients" />
        </section>
        {active && <Side row={active} page={page} onOpen={() => open(active)} onClose={() => page.set({ sel: undefined }, true)} onRules={() => setRules([keyOf(active)])} give={verdicts.give} />}
      </div>
      {verdicts.dialog}
      {rules && <RulesDialog clients={rules} onClose={() => setRules(null)} />}
    </>
  );
}

function NoClients({ page }: { page: PageState }) {
  const status = useQuery(statusQuery());
  const span = status.data?.data;
  const { zone } = usePrefs();
  return (
    <Empty
      title={page.q ? "No client passes this filter" : "No clients in this span"}
      action={
        page.q ? (
          <button type="button" className="btn" onClick={() => page.set({ q: undefined })}>
            Clear the filter
          </button>
        ) : undefined
      }
    >
      {span ? `The store has requests from ${stamp(span.first, zone, "minute", false)} to ${stamp(span.last, zone, "minute")}.` : "The store has no requests yet. They show here within a few seconds of the first one."}
    </Empty>
  );
}

interface SideProps {
  row: ClientRow;
  page: PageState;
  onOpen: () => void;
  onClose: () => void;
  onRules: () => void;
  give: (clients: readonly ClientKey[], verdict: "bot" | "legitimate" | "verified_crawler" | "unsure") => void;
}

function Side({ row, page, onOpen, onClose, onRules, give }: SideProps) {
  const now = useNow();
  const { zone } = usePrefs();
  const status = useQuery(statusQuery());
  const [modelName, setModel] = useState<string | null>(null);
  const model = row.models.find((one) => one.model_name === modelName) ?? row.models[0];
  const client = keyOf(row);
  return (
    <aside aria-label="Selected client" data-side-panel className="flex w-[26rem] shrink-0 flex-col overflow-hidden border-l border-line bg-surface max-xl:w-[22rem]">
      <header className="flex flex-col gap-1.5 border-b border-line p-3">
        <div className="flex items-start gap-2">
          <h2 className="num min-w-0 flex-1 text-base leading-6 font-semibold">
            <Value field="src_ip" value={row.src_ip} client={client} />
          </h2>
          <button type="button" className="btn btn-quiet btn-sm px-1.5" aria-label="Close the side panel" onClick={onClose}>
            <Icon name="close" />
          </button>
        </div>
        <div className="flex flex-wrap items-center gap-1.5">
          <VerdictChip verdict={row.verdict} />
          {row.recorded && <RecordedChip />}
          {row.flagged_since && (
            <span className="text-xs text-muted" title={stamp(row.flagged_since, zone)}>
              flagged since {ago(row.flagged_since, now)}
            </span>
          )}
        </div>
        <dl className="grid grid-cols-[4.5rem_1fr] items-baseline gap-x-2 text-xs leading-6">
          <dt className="text-muted">Host</dt>
          <dd className="min-w-0">
            <Value field="host" value={row.host} className="num" />
          </dd>
          <dt className="text-muted">Claims</dt>
          <dd className="min-w-0">
            <Value field="ua_family" value={row.ua_family} />
          </dd>
          <dt className="text-muted">TLS of</dt>
          <dd className="min-w-0">
            {row.identity.length > 0 ? <Raw value={row.identity.join(", ")} max={120} expandable /> : <span className="text-muted">not in the catalogue</span>}
            <Value field="ja4" value={row.ja4} client={client} className="num block text-2xs text-muted" />
          </dd>
          <dt className="text-muted">Network</dt>
          <dd className="min-w-0">
            {row.as_name || row.asn > 0 ? (
              <>
                <Value field="asn" value={String(row.asn)}>
                  AS {row.asn}
                </Value>{" "}
                <Raw value={row.as_name} max={60} empty="" />
              </>
            ) : (
              <span className="text-muted">unknown</span>
            )}{" "}
            {row.country && <Value field="country" value={row.country} />}
          </dd>
          {row.crawler && (
            <>
              <dt className="text-muted">Crawler</dt>
              <dd>
                address published by <Raw value={row.crawler} max={60} />
              </dd>
            </>
          )}
          <dt className="text-muted">Requests</dt>
          <dd>
            {count(row.requests)}, {count(row.errors)} errors{row.last_seen && `, last ${ago(row.last_seen, now)}`}
          </dd>
        </dl>
        <div className="flex gap-1.5 pt-1">
          <button type="button" className="btn btn-primary btn-sm" onClick={onOpen}>
            Open client <kbd className="font-mono text-2xs">↵</kbd>
          </button>
          <Link to="/requests" search={{ q: requestsFilter(row), from: page.search.from, to: page.search.to }} className="btn btn-sm">
            Requests <kbd className="kbd">r</kbd>
          </Link>
          <button type="button" className="btn btn-sm" onClick={onRules}>
            Now what <kbd className="kbd">w</kbd>
          </button>
        </div>
      </header>
      <div className="min-h-0 flex-1 overflow-auto p-3" tabIndex={0} role="group" aria-label="Verdict and reasons">
        <h3 className="label pb-1.5">Verdict</h3>
        <VerdictButtons clients={[client]} onGive={give} />
        {row.label && (
          <div className="mt-2">
            <LabelLine label={row.label} labelsSeenAt={status.data?.last_cycle?.labels_seen_at} />
          </div>
        )}
        {row.incident && (
          <p className="mt-3 rounded-md border border-line bg-raised px-2 py-1.5 text-xs">
            <Icon name="alert" className="mr-1 inline text-alert" />
            Incident: <Raw value={row.incident.title} max={200} /> ({row.incident.severity}, {row.incident.status}, since {ago(row.incident.opened_at, now)})
          </p>
        )}
        <h3 className="label pt-4 pb-1.5">Why</h3>
        <Models models={row.models} chosen={model?.model_name} onChoose={setModel} />
        {model && model.reasons.length > 0 ? <ReasonList reasons={model.reasons} /> : <p className="text-sm text-muted">{model ? "Nothing stands out in this model." : "No cycle has scored this client in this span."}</p>}
      </div>
    </aside>
  );
}
