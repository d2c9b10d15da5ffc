// Overview: traffic, how well it joins and what got lost, clients by verdict, what is new, and who is flagged.
import { useInfiniteQuery, useQuery, type UseQueryResult } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useMemo } from "react";
import { clientsQuery, keyOf, overviewQuery, statusQuery } from "../api/queries";
import type { ClientRow, Overview as Data } from "../api/types";
import { bits, bytes, count, percent, plural, short } from "../lib/format";
import { useNow } from "../lib/now";
import { usePrefs } from "../lib/prefs";
import { ago, stamp } from "../lib/time";
import { Chart, type Series } from "../ui/Chart";
import { Icon } from "../ui/Icon";
import { Raw } from "../ui/Raw";
import { VoiceBar } from "../ui/Reasons";
import { Body, Cut, Empty, Panel } from "../ui/States";
import { Toolbar, usePageState, type PageState } from "../ui/Toolbar";
import { fieldName, Value } from "../ui/ValueMenu";
import { LabelChip, RecordedChip, VerdictChip } from "../ui/Verdict";
import { useKeys } from "../lib/keys";

/** Clients shown here; the triage list has all. */
const TOP = 8;
/** Evidence below which a client is not worth a line here, bits: one of eight is like that. */
const WORTH_BITS = 3;

export default function Overview() {
  const page = usePageState();
  const query = useQuery(overviewQuery(page.q, page.range));
  const top = useInfiniteQuery(clientsQuery(page.q, page.range, "evidence", TOP));
  const rows = useMemo(() => (top.data?.pages[0]?.clients ?? []).filter((row) => (row.evidence_bits ?? 0) >= WORTH_BITS || row.verdict === "flagged" || row.verdict === "alert").slice(0, TOP), [top.data]);
  const navigate = useNavigate();
  const at = rows.findIndex((row) => row.entity_id === page.search.sel);
  const move = (step: number) => {
    const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))];
    if (next) page.set({ sel: next.entity_id }, true);
  };
  const open = (row: ClientRow) => void navigate({ to: "/client", search: { ...keyOf(row), from: page.search.from, to: page.search.to } });
  useKeys({
    j: () => move(1),
    k: () => move(-1),
    ArrowDown: () => move(1),
    ArrowUp: () => move(-1),
    Enter: () => {
      const row = rows[at];
      if (row) open(row);
    },
  });

  return (
    <>
      <Toolbar title="Overview" state={page} error={query.error} />
      <div className="grid auto-rows-min grid-cols-1 gap-3 p-3 lg:grid-cols-12">
        <Panel title="Traffic" query={query} className="lg:col-span-8" rows={5}>
          {(data) => <Traffic data={data} page={page} />}
        </Panel>
        <Panel title="Clients" query={query} className="lg:col-span-4" rows={5}>
          {(data) => <Clients data={data} page={page} />}
        </Panel>
        <section aria-label="Most evidence" className="card flex min-w-0 flex-col overflow-hidden lg:col-span-8">
          <header className="flex min-h-9 items-center gap-2 border-b border-line px-3 py-1">
            <h2 className="text-sm font-semibold">Most evidence</h2>
            <span className="flex-1" />
            <Link to="/triage" search={{ q: page.search.q, from: page.search.from, to: page.search.to }} className="link text-xs">
              All clients in triage
            </Link>
          </header>
          <Body query={top as UseQueryResult<unknown>} rows={6}>
            {() => <Top rows={rows} selected={page.search.sel} page={page} />}
          </Body>
        </section>
        <Panel title="Joins and losses" query={query} className="lg:col-span-4" rows={5}>
          {(data) => <Joins data={data} />}
        </Panel>
        <Panel title="New on a host" query={query} className="lg:col-span-8" rows={4}>
          {(data) => <Novelties data={data} />}
        </Panel>
        <Panel title="Most frequent" query={query} className="lg:col-span-4" rows={4}>
          {(data) => <Frequent data={data} />}
        </Panel>
      </div>
    </>
  );
}

function Figure({ label, children, hint }: { label: string; children: React.ReactNode; hint?: string }) {
  return (
    <div title={hint}>
      <dt className="label">{label}</dt>
      <dd className="num text-lg leading-6 font-semibold">{children}</dd>
    </div>
  );
}

function Traffic({ data, page }: { data: Data; page: PageState }) {
  const times = useMemo(() => data.series.map((point) => Date.parse(point.t)), [data.series]);
  const series = useMemo<Series[]>(
    () => [
      { name: "5xx", color: "--fill-alert", values: data.series.map((p) => p.s5xx) },
      { name: "4xx", color: "--fill-warn", values: data.series.map((p) => p.s4xx) },
      { name: "3xx", color: "--fill-rest", values: data.series.map((p) => p.s3xx) },
      { name: "2xx and unfinished", color: "--fill-accent", values: data.series.map((p) => Math.max(0, p.requests - p.s3xx - p.s4xx - p.s5xx)) },
    ],
    [data.series],
  );
  const { totals } = data;
  return (
    <div className="flex flex-col gap-2 p-3">
      <dl className="flex flex-wrap gap-x-8 gap-y-2">
        <Figure label="Requests" hint={count(totals.requests)}>
          {count(totals.requests)}
        </Figure>
        <Figure label="Errors" hint="answers 400 and above">
          {totals.requests > 0 ? percent(totals.errors / totals.requests) : "–"}
        </Figure>
        <Figure label="Sent" hint={`${count(totals.bytes)} bytes`}>
          {bytes(totals.bytes)}
        </Figure>
        <Figure label="Clients" hint="counted to within 2 %">
          {count(totals.clients)}
        </Figure>
      </dl>
      {totals.requests === 0 ? (
        <Empty title="No requests in this span">{page.q ? "The filter may leave all out; clear it, or widen the time." : "Once a sensor and a producer of requests are connected, traffic shows here within a few seconds."}</Empty>
      ) : (
        <Chart label="Traffic" times={times} stepMs={data.step_s * 1000} series={series} height={176} onBrush={page.brush} />
      )}
      <Cut truncated={data.truncated} />
    </div>
  );
}

function Clients({ data, page }: { data: Data; page: PageState }) {
  const { clients } = data;
  const search = { from: page.search.from, to: page.search.to };
  const entries: readonly { verdict: string; n: number; label: boolean }[] = [
    { verdict: "alert", n: clients.alert, label: false },
    { verdict: "flagged", n: clients.flagged, label: false },
    { verdict: "bot", n: clients.bot, label: true },
    { verdict: "legitimate", n: clients.legitimate, label: true },
    { verdict: "verified_crawler", n: clients.verified_crawler, label: true },
    { verdict: "unsure", n: clients.unsure, label: true },
  ];
  return (
    <div className="flex flex-col gap-2 p-3">
      <dl className="flex gap-8">
        <Figure label="Seen" hint="counted to within 2 %">
          {count(clients.total)}
        </Figure>
        <Figure label="Scored">{count(clients.scored)}</Figure>
      </dl>
      <table className="w-full text-sm">
        <thead className="sr-only">
          <tr>
            <th>Verdict</th>
            <th>Clients</th>
          </tr>
        </thead>
        <tbody>
          {entries.map((one) => (
            <tr key={one.verdict} className="border-t border-line">
              <td className="py-1">
                <Link to="/triage" search={{ ...search, q: `${one.label ? "label" : "verdict"}:${one.verdict}` }} className="inline-flex min-h-6 items-center gap-2 hover:underline">
                  {one.label ? <LabelChip label={one.verdict} /> : <VerdictChip verdict={one.verdict} />}
                  <span className="text-xs text-muted">{one.label ? "said an analyst" : one.verdict === "flagged" ? "says the detector, alerts included" : "says the detector"}</span>
                </Link>
              </td>
              <td className="num py-1 text-right">{count(one.n)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Top({ rows, selected, page }: { rows: readonly ClientRow[]; selected: string | undefined; page: PageState }) {
  const status = useQuery(statusQuery());
  if (rows.length === 0) {
    return (
      <Empty title="No client stands out">
        {status.data?.state === "learning" || status.data?.state === "waiting"
          ? "The detector is learning what is normal here. Until then a client shows up when what it claims and what it shows contradict each other."
          : "No client has evidence against it in this span. That is a result, not a fault."}
      </Empty>
    );
  }
  const most = Math.max(20, ...rows.map((row) => row.evidence_bits ?? 0));
  return (
    <table className="w-full table-fixed text-sm">
      <colgroup>
        <col className="w-28" />
        <col className="w-[36%]" />
        <col />
      </colgroup>
      <thead className="sr-only">
        <tr>
          <th>Evidence</th>
          <th>Client</th>
          <th>Why</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.entity_id} data-entity={row.entity_id} data-verdict={row.verdict} aria-current={row.entity_id === selected ? "true" : undefined} className={`border-b border-line last:border-0 ${row.entity_id === selected ? "bg-accent-soft shadow-[inset_3px_0_0_var(--accent)]" : "hover:bg-raised"}`}>
            <td className="td pr-4 pl-3">
              <span className="num font-semibold">{bits(row.evidence_bits ?? 0)}</span> <span className="text-2xs text-muted">bits</span>
              <VoiceBar reasons={row.reasons} max={most} className="mt-1" />
            </td>
            <td className="td">
              <div className="flex items-center gap-2">
                <Link to="/client" search={{ ...keyOf(row), from: page.search.from, to: page.search.to }} className="num link min-h-6 truncate font-semibold">
                  <Raw value={row.src_ip} />
                </Link>
                <span className="flex gap-1 overflow-hidden">
                  {row.verdict !== "normal" && row.verdict !== "unscored" && <VerdictChip verdict={row.verdict} />}
                  {row.label && <LabelChip label={row.label.label} />}
                  {row.recorded && <RecordedChip compact />}
                </span>
              </div>
              <div className="truncate text-xs text-muted">
                <Raw value={row.ua_family} empty="says nothing" max={30} /> · <Raw value={row.host} max={40} />
              </div>
            </td>
            <td className="td">
              <p className="line-clamp-2 text-xs">
                <Raw value={row.reasons[0]?.text ?? ""} max={240} empty="no reason given" />
              </p>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const MATCH_TEXT: Readonly<Record<string, string>> = { exact: "joined exactly", asof: "joined by time", ambiguous: "ambiguous", none: "no connection" };

function Joins({ data }: { data: Data }) {
  const { joins } = data;
  return (
    <div className="flex flex-col gap-3 p-3 text-sm">
      <div>
        <div className="flex items-baseline gap-2">
          <span className="num text-lg font-semibold whitespace-nowrap">{percent(joins.rate)}</span>
          <span className="text-xs text-muted">
            {joins.rate === null ? "no requests over https in this span" : `of ${plural(joins.secure, "request")} over https found their connection`}
          </span>
        </div>
        {joins.rate !== null && (
          <div aria-hidden="true" className="mt-1 h-1.5 overflow-hidden rounded-full bg-raised">
            <div className={`h-full ${joins.rate >= 0.95 ? "bg-ok" : "bg-warn"}`} style={{ width: `${joins.rate * 100}%` }} />
          </div>
        )}
      </div>
      {joins.reasons.length > 0 && (
        <table className="w-full text-xs">
          <caption className="label pb-1 text-left">How requests found theirs</caption>
          <tbody>
            {joins.reasons.slice(0, 8).map((one) => (
              <tr key={`${one.match}/${one.reason}`} className="border-t border-line">
                <th scope="row" className="py-1 text-left font-normal">
                  <Value field="match" value={one.match}>
                    {MATCH_TEXT[one.match] ?? <Raw value={one.match} />}
                  </Value>
                  {one.reason && (
                    <span className="text-muted">
                      {": "}
                      <Raw value={one.reason.replaceAll("_", " ")} max={60} />
                    </span>
                  )}
                </th>
                <td className="num py-1 text-right">{count(one.requests)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <div>
        <h3 className="label pb-1">Lost before the store</h3>
        {joins.loss.length === 0 ? (
          <p className="flex items-center gap-1.5 text-xs text-muted">
            <Icon name="check" className="text-ok" />
            Nothing, as far as the producers' numbers tell.
          </p>
        ) : (
          <table className="w-full text-xs">
            <tbody>
              {joins.loss.slice(0, 8).map((one) => (
                <tr key={`${one.source}/${one.node}/${one.reason}`} className="border-t border-line">
                  <th scope="row" className="py-1 text-left font-normal">
                    <Raw value={one.source} max={30} /> on <Raw value={one.node} max={30} />: <Raw value={one.reason.replaceAll("_", " ")} max={60} />
                  </th>
                  <td className="num py-1 text-right text-warn">{count(one.events)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </div>
    </div>
  );
}

function Novelties({ data }: { data: Data }) {
  const now = useNow();
  const { zone } = usePrefs();
  if (data.novelties === null) return <Empty title="Hidden while learning">Everything is new to a store that has just begun. Once the detector has learned what is usual here, values that were never seen on their host before show up in this place.</Empty>;
  if (data.novelties.length === 0) return <Empty title="Nothing new">No fingerprint, User-Agent, header order or network that its host had not seen before.</Empty>;
  return (
    <table className="w-full table-fixed text-xs">
      <thead>
        <tr>
          <th className="th w-24 pl-3">What</th>
          <th className="th">Value</th>
          <th className="th w-[24%]">Host</th>
          <th className="th w-24">First seen</th>
          <th className="th w-20 pr-3 text-right">Requests</th>
        </tr>
      </thead>
      <tbody>
        {data.novelties.slice(0, 12).map((one) => (
          <tr key={`${one.kind}/${one.host}/${one.value}`} className="border-t border-line">
            <td className="td pl-3 text-muted">{fieldName(one.kind)}</td>
            <td className="td truncate">
              <Value field={one.kind} value={one.value} max={70} className="num truncate" />
            </td>
            <td className="td truncate">
              <Value field="host" value={one.host} max={40} className="num truncate" />
            </td>
            <td className="td whitespace-nowrap text-muted" title={stamp(one.first_seen, zone)}>
              {ago(one.first_seen, now)}
            </td>
            <td className="td num pr-3 text-right">{short(one.requests)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Frequent({ data }: { data: Data }) {
  const facets = data.facets.filter((facet) => facet.values.length > 0).slice(0, 4);
  if (facets.length === 0) return <Empty title="Nothing to count" />;
  return (
    <div className="grid grid-cols-1 gap-3 p-3">
      {facets.map((facet) => (
        <section key={facet.field} aria-label={fieldName(facet.field)}>
          <h3 className="label pb-0.5">{fieldName(facet.field)}</h3>
          <ul>
            {facet.values.slice(0, 4).map((one) => (
              <li key={one.value} className="flex min-h-6 items-center gap-2 text-xs">
                <span className="min-w-0 flex-1 truncate">
                  <Value field={facet.field} value={one.value} name={one.name} max={60} className="num truncate" />
                </span>
                <span className="num text-muted" title={count(one.requests)}>
                  {short(one.requests)}
                </span>
              </li>
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
}
