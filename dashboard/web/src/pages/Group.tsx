// What several clients share: a JA4, a host, a network, a header order or a User-Agent, and who they are.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { groupQuery, keyOf } from "../api/queries";
import type { ClientRow, GroupKind, GroupPage } from "../api/types";
import { bits, bytes, count, percent, plural } from "../lib/format";
import { useKeys } from "../lib/keys";
import { useNow } from "../lib/now";
import { usePrefs } from "../lib/prefs";
import { ago, stamp } from "../lib/time";
import { Chart } from "../ui/Chart";
import { ClientList } from "../ui/ClientList";
import { Raw } from "../ui/Raw";
import { ReasonList } from "../ui/Reasons";
import { Age, Cut, Empty, Failed, Loading, useStoreAway } from "../ui/States";
import { Toolbar, usePageState, type PageState } from "../ui/Toolbar";
import { fieldName, Value } from "../ui/ValueMenu";

const KINDS: Readonly<Record<GroupKind, { title: string; field: string }>> = {
  ja4: { title: "JA4", field: "ja4" },
  host: { title: "Host", field: "host" },
  prefix: { title: "Network", field: "src_ip" },
  header_order: { title: "Header order", field: "header_order" },
  user_agent: { title: "User-Agent", field: "user_agent" },
};

export default function Group() {
  const page = usePageState();
  const kind = page.search.kind as GroupKind | undefined;
  const value = page.search.value;
  if (!kind || !(kind in KINDS) || value === undefined) {
    return (
      <Empty title="Which group?">
        The address of this page must say a <span className="num">kind</span> (ja4, host, prefix, header_order or user_agent) and a <span className="num">value</span>. Open one from the menu of any value.
      </Empty>
    );
  }
  return <OneGroup key={`${kind} ${value}`} kind={kind} value={value} page={page} />;
}

function OneGroup({ kind, value, page }: { kind: GroupKind; value: string; page: PageState }) {
  const query = useQuery(groupQuery(kind, value, page.range));
  const away = useStoreAway();
  const navigate = useNavigate();
  const rows = query.data?.clients ?? [];
  const at = rows.findIndex((row) => row.entity_id === page.search.sel);
  const open = (row: ClientRow) => void navigate({ to: "/client", search: { ...keyOf(row), from: page.search.from, to: page.search.to } });
  const move = (step: number) => {
    const row = rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + step))];
    if (row) page.set({ sel: row.entity_id }, true);
  };
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Enter: () => {
      const row = rows[at];
      if (row) open(row);
    },
    r: () => query.data && void navigate({ to: "/requests", search: { q: query.data.filter, from: page.search.from, to: page.search.to } }),
    Escape: () => window.history.back(),
  });
  return (
    <>
      <Toolbar title={KINDS[kind].title} state={page} filter={false}>
        {query.data && (
          <>
            <Link to="/triage" search={{ q: query.data.filter, from: page.search.from, to: page.search.to }} className="btn">
              In triage
            </Link>
            <Link to="/requests" search={{ q: query.data.filter, from: page.search.from, to: page.search.to }} className="btn">
              Requests <kbd className="kbd">r</kbd>
            </Link>
          </>
        )}
      </Toolbar>
      {query.data === undefined ? (
        query.isError ? (
          <Failed error={query.error} retry={() => void query.refetch()} />
        ) : (
          <Loading rows={12} label="Loading the group" />
        )
      ) : (
        <div className={`grid auto-rows-min grid-cols-1 gap-3 p-3 xl:grid-cols-12 ${query.isError || away ? "stale" : ""}`}>
          <Summary data={query.data} age={<Age query={query} />} />
          <section aria-label="Traffic" className="card p-2 xl:col-span-8">
            <Points data={query.data} page={page} />
          </section>
          <Seen data={query.data} />
          <section aria-label="Clients" className="card flex h-[26rem] flex-col overflow-hidden xl:col-span-8">
            <h2 className="border-b border-line px-3 py-2 text-sm font-semibold">
              {plural(query.data.totals.clients, "client")}
              {query.data.totals.clients > rows.length && rows.length > 0 && <span className="font-normal text-muted">, the first {rows.length} in triage order</span>}
            </h2>
            <div className="min-h-0 flex-1">
              {rows.length === 0 ? <Empty title="No clients in this span" /> : <ClientList label="Clients of this group" rows={rows} selected={page.search.sel} onSelect={(row) => page.set({ sel: row.entity_id }, true)} onOpen={open} />}
            </div>
          </section>
          <div className="flex min-w-0 flex-col gap-3 xl:col-span-4">
            <GroupScores data={query.data} />
            <Facets data={query.data} />
          </div>
          <div className="xl:col-span-12">
            <Cut truncated={query.data.truncated} what="clients" />
          </div>
        </div>
      )}
    </>
  );
}

function Summary({ data, age }: { data: GroupPage; age: React.ReactNode }) {
  const { totals } = data;
  const field = KINDS[data.kind].field;
  return (
    <section aria-label="Summary" className="card p-4 xl:col-span-12">
      <p className="flex flex-wrap items-center gap-2 text-base">
        <Value field={field} value={data.value} className="num font-semibold">
          <Raw value={data.shown} max={300} />
        </Value>
        {age}
      </p>
      <p className="mt-1 text-sm">
        {data.identity.length > 0 ? (
          <>
            Known as <Raw value={data.identity.join(", ")} max={300} expandable />.
          </>
        ) : (
          <span className="text-muted">Nothing is known of this value.</span>
        )}{" "}
        {plural(totals.clients, "client")} made {plural(totals.requests, "request")}, {totals.requests > 0 ? percent(totals.errors / totals.requests) : "0 %"} answered with an error, {bytes(totals.bytes)} sent.
      </p>
    </section>
  );
}

function Points({ data, page }: { data: GroupPage; page: PageState }) {
  const times = useMemo(() => data.points.map((point) => Date.parse(point.t)), [data.points]);
  const series = useMemo(
    () => [
      { name: "answered 400 and above", color: "--fill-warn", values: data.points.map((p) => p.errors) },
      { name: "other requests", color: "--fill-accent", values: data.points.map((p) => p.requests - p.errors) },
    ],
    [data.points],
  );
  return <Chart label="Requests of this group" times={times} stepMs={data.step_s * 1000} series={series} height={130} onBrush={page.brush} />;
}

function Seen({ data }: { data: GroupPage }) {
  const now = useNow();
  const { zone } = usePrefs();
  return (
    <section aria-label="First seen by host" className="card overflow-hidden xl:col-span-4">
      <h2 className="border-b border-line px-3 py-2 text-sm font-semibold">First seen by host</h2>
      {data.seen.length === 0 ? (
        <Empty title="Not kept for this kind of value" />
      ) : (
        <div className="max-h-32 overflow-auto" tabIndex={0} role="group" aria-label="Hosts">
          <table className="w-full text-xs">
            <tbody>
              {data.seen.map((one) => (
                <tr key={one.host} className="border-t border-line first:border-0">
                  <td className="td pl-3">
                    <Value field="host" value={one.host} className="num" max={40} />
                  </td>
                  <td className="td whitespace-nowrap text-muted" title={stamp(one.first_seen, zone)}>
                    {ago(one.first_seen, now)}
                  </td>
                  <td className="td num pr-3 text-right">{count(one.requests)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function GroupScores({ data }: { data: GroupPage }) {
  const newest = data.scores[0];
  const { zone } = usePrefs();
  return (
    <section aria-label="Score of the group" className="card overflow-hidden">
      <h2 className="border-b border-line px-3 py-2 text-sm font-semibold">Score of the group</h2>
      {!newest ? (
        <p className="p-3 text-sm text-muted">No cycle has scored this group in this span.</p>
      ) : (
        <div className="p-3">
          <p className="pb-2 text-xs text-muted">
            <span className="num text-text">{newest.score.toFixed(3)}</span> by <Raw value={newest.model_name} />, {plural(newest.clients, "client")}, {stamp(newest.window_end, zone)}; {bits(newest.reasons.reduce((sum, one) => sum + one.contribution, 0))} bits
          </p>
          <ReasonList reasons={newest.reasons} />
        </div>
      )}
    </section>
  );
}

function Facets({ data }: { data: GroupPage }) {
  return (
    <section aria-label="Most frequent within it" className="card overflow-hidden">
      <h2 className="border-b border-line px-3 py-2 text-sm font-semibold">Most frequent within it</h2>
      <div className="flex flex-col gap-3 p-3">
        {data.facets
          .filter((facet) => facet.values.length > 0)
          .slice(0, 8)
          .map((facet) => (
            <section key={facet.field} aria-label={fieldName(facet.field)}>
              <h3 className="label">{fieldName(facet.field)}</h3>
              <ul>
                {facet.values.slice(0, 4).map((one) => (
                  <li key={one.value} className="flex min-h-6 items-center gap-2 text-xs">
                    <span className="min-w-0 flex-1 truncate">
                      <Value field={facet.field} value={one.value} name={one.name} max={60} className="num truncate" />
                    </span>
                    <span className="num text-muted">{count(one.requests)}</span>
                  </li>
                ))}
              </ul>
            </section>
          ))}
      </div>
    </section>
  );
}
