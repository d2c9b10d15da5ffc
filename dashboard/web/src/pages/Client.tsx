// One client: a plain sentence, declared against observed, numbers against the median, time, score, the exact requests.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { lazy, Suspense, useMemo, useState, type ReactNode } from "react";
import { clientQuery, keyOf, scoresQuery, statusQuery, timelineQuery } from "../api/queries";
import type { ClientFacts, ClientKey, ClientPage, LabelEntry, MatrixCell, Numbers, Shown, Waterfall } from "../api/types";
import { dimensionName, firstLine } from "../lib/firstline";
import { requestsFilter } from "../lib/filter";
import { bits, count, plural, value } from "../lib/format";
import { useKeys } from "../lib/keys";
import { useNow } from "../lib/now";
import { usePrefs } from "../lib/prefs";
import { ago, stamp } from "../lib/time";
import { Chart, type Series } from "../ui/Chart";
import { Card } from "../ui/Card";
import { Icon, type IconName } from "../ui/Icon";
import { Models } from "../ui/Models";
import { Raw } from "../ui/Raw";
import { Percentile, ReasonList, REST } from "../ui/Reasons";
import { RulesDialog } from "../ui/lazy";
import { Age, Cut, Empty, Failed, Loading, Panel, useStoreAway } from "../ui/States";
import { Toolbar, usePageState, type PageState } from "../ui/Toolbar";
import { Value } from "../ui/ValueMenu";
import { LabelChip, RecordedChip, VerdictChip, verdictText, VoiceTag, voiceOf } from "../ui/Verdict";
import { LabelLine, useVerdicts, VerdictButtons, verdictKeys } from "../ui/Verdicts";

// Below the fold and heavy: its code comes after that of the page.
const RequestsPanel = lazy(() => import("../ui/ClientRequests"));

export default function Client() {
  const page = usePageState();
  const { src_ip, ja4 = "", host } = page.search;
  if (!src_ip || !host) {
    return (
      <Empty title="Which client?">
        The address of this page must say <span className="num">src_ip</span>, <span className="num">ja4</span> and <span className="num">host</span>. Go through{" "}
        <Link to="/triage" className="link">
          triage
        </Link>
        .
      </Empty>
    );
  }
  return <OneClient key={`${src_ip} ${ja4} ${host}`} client={{ src_ip, ja4, host }} page={page} />;
}

function OneClient({ client, page }: { client: ClientKey; page: PageState }) {
  const query = useQuery(clientQuery(client, page.range));
  const away = useStoreAway();
  const navigate = useNavigate();
  const verdicts = useVerdicts();
  const [rules, setRules] = useState(false);
  const toRequests = () => void navigate({ to: "/requests", search: { q: requestsFilter(client), from: page.search.from, to: page.search.to } });
  useKeys({ ...verdictKeys(() => [client], verdicts), w: () => setRules(true), r: toRequests, Escape: () => window.history.back() });

  return (
    <>
      <Toolbar title="Client" state={page} filter={false}>
        <Link to="/requests" search={{ q: requestsFilter(client), from: page.search.from, to: page.search.to }} className="btn">
          Requests <kbd className="kbd">r</kbd>
        </Link>
        <button type="button" className="btn" onClick={() => setRules(true)}>
          <Icon name="shield" className="text-muted" />
          Now what <kbd className="kbd">w</kbd>
        </button>
      </Toolbar>
      {query.data === undefined ? (
        query.isError ? (
          <Failed error={query.error} retry={() => void query.refetch()} />
        ) : (
          <Loading rows={12} label="Loading the client" />
        )
      ) : (
        <div className={`flex flex-col gap-3 p-3 ${query.isError || away ? "stale" : ""}`}>
          <Head data={query.data} give={verdicts.give} age={<Age query={query} />} />
          <div className="grid grid-cols-1 gap-3 xl:grid-cols-12">
            <div className="flex min-w-0 flex-col gap-3 xl:col-span-8">
              <MatrixPanel data={query.data} />
              <ScorePanel data={query.data} />
              <TimePanel client={client} page={page} />
              <NumbersPanel numbers={query.data.numbers} />
            </div>
            <div className="flex min-w-0 flex-col gap-3 xl:col-span-4">
              <History data={query.data} />
              {query.data.facts && <FactsPanel facts={query.data.facts} />}
            </div>
          </div>
          <Suspense fallback={<Loading rows={8} label="Loading the requests" />}>
            <RequestsPanel client={client} page={page} />
          </Suspense>
          <Cut truncated={query.data.truncated} />
        </div>
      )}
      {verdicts.dialog}
      {rules && <RulesDialog clients={[client]} onClose={() => setRules(false)} />}
    </>
  );
}

function Head({ data, give, age }: { data: ClientPage; give: ReturnType<typeof useVerdicts>["give"]; age: ReactNode }) {
  const { client } = data;
  const status = useQuery(statusQuery());
  const key = keyOf(client);
  return (
    <section aria-label="Summary" className="card flex flex-col gap-3 p-4" data-client-verdict={client.verdict} data-evidence={client.evidence_bits ?? ""}>
      <div className="flex flex-wrap items-start gap-x-6 gap-y-3">
        <div className="min-w-0 flex-1 basis-96">
          <p className="text-base leading-6">
            {firstLine(data).map((piece, i) =>
              // The pieces of the sentence never change their order.
              // oxlint-disable-next-line react/no-array-index-key
              typeof piece === "string" ? <span key={i}>{piece}</span> : <Raw key={i} value={piece.raw} max={80} className="num font-semibold" />,
            )}
          </p>
          <div className="mt-2 flex flex-wrap items-center gap-x-3 gap-y-1 text-xs text-muted">
            <VerdictChip verdict={client.verdict} />
            {client.recorded && <RecordedChip what="all its requests here were recorded earlier and replayed" />}
            {age}
            <span>
              <Value field="src_ip" value={client.src_ip} client={key} className="num text-text" />
            </span>
            <span>
              <Value field="ja4" value={client.ja4} client={key} className="num text-text">
                <Raw value={client.ja4} empty="no TLS" max={60} />
              </Value>
            </span>
            <span>
              <Value field="host" value={client.host} className="num text-text" />
            </span>
            {(client.as_name || client.country) && (
              <span>
                <Raw value={[client.as_name, client.country].filter(Boolean).join(", ")} max={60} />
              </span>
            )}
          </div>
        </div>
        <div className="text-right">
          <div className="num text-3xl leading-8 font-semibold">{client.evidence_bits === null ? "–" : bits(client.evidence_bits)}</div>
          <div className="text-xs text-muted">{client.evidence_bits === null ? "not scored" : "bits of evidence"}</div>
        </div>
      </div>
      <div className="flex flex-wrap items-center gap-x-4 gap-y-2 border-t border-line pt-3">
        <VerdictButtons clients={[key]} onGive={give} />
        {client.label ? <LabelLine label={client.label} labelsSeenAt={status.data?.last_cycle?.labels_seen_at} /> : <span className="text-xs text-muted">no analyst has judged this client</span>}
      </div>
    </section>
  );
}

const FIT: Readonly<Record<MatrixCell["verdict"], { icon: IconName; text: string; tone: string }>> = {
  agrees: { icon: "check", text: "Agrees", tone: "text-ok bg-ok-soft" },
  contradicts: { icon: "cross", text: "Contradicts", tone: "text-alert bg-alert-soft" },
  unknown: { icon: "question", text: "Unknown", tone: "text-muted bg-raised" },
};

function MatrixPanel({ data }: { data: ClientPage }) {
  const { matrix } = data;
  const claims = matrix?.claims;
  const claimed = claims && claims.kind !== "none" ? [claims.family, claims.version, claims.os && `on ${claims.os}`].filter(Boolean).join(" ") : "";
  return (
    <Card title="Declared against observed" actions={claimed && <span className="text-xs text-muted">claims to be <Raw value={claimed} max={80} className="text-text" />{claims?.kind ? ` (${claims.kind})` : ""}</span>}>
      {!matrix || matrix.cells.length === 0 ? (
        <Empty title="Nothing to compare">It made no request in this span.</Empty>
      ) : (
        <div className="overflow-x-auto" tabIndex={0} role="group" aria-label="Identity matrix">
          <table className="w-full min-w-[44rem] text-xs">
            <thead>
              <tr>
                <th className="th w-28 pl-3">What</th>
                <th className="th w-28">Fits</th>
                <th className="th w-[18%]">Declared</th>
                <th className="th w-[26%]">Observed</th>
                <th className="th pr-3">Why</th>
              </tr>
            </thead>
            <tbody>
              {matrix.cells.map((cell) => {
                const fit = FIT[cell.verdict];
                return (
                  <tr key={cell.dimension} className="border-t border-line align-top" data-fit={cell.verdict}>
                    <th scope="row" className="td pl-3 text-left font-semibold first-letter:uppercase">
                      {dimensionName(cell.dimension)}
                    </th>
                    <td className="td">
                      <span className={`chip ${fit.tone}`}>
                        <Icon name={fit.icon} className="size-3" />
                        {fit.text}
                      </span>
                      {cell.bits > 0 && <div className="num mt-0.5 text-muted">+{bits(cell.bits)} bits</div>}
                    </td>
                    <td className="td">
                      <Raw value={cell.declared} max={160} expandable empty="–" />
                    </td>
                    <td className="td num">
                      <Raw value={cell.observed} max={160} expandable empty="–" />
                    </td>
                    <td className="td pr-3">
                      <Raw value={cell.why} max={300} empty="–" />
                      {cell.source && (
                        <div className="num mt-0.5 text-2xs text-muted">
                          <Raw value={cell.source} max={160} expandable />
                        </div>
                      )}
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}

function ScorePanel({ data }: { data: ClientPage }) {
  const [chosen, setChosen] = useState<string | null>(null);
  const model = data.client.models.find((one) => one.model_name === chosen) ?? data.client.models[0];
  const waterfall = data.waterfalls.find((one) => one.model_name === model?.model_name);
  return (
    <Card title="How the score comes about">
      <div className="p-3">
        <Models models={data.client.models} chosen={model?.model_name} onChoose={setChosen} />
        {!model ? (
          <p className="text-sm text-muted">No cycle has scored this client in this span.</p>
        ) : (
          <>
            {waterfall && <WaterfallChart waterfall={waterfall} />}
            <div className="mt-3 flex flex-wrap gap-x-5 gap-y-1 border-t border-line pt-2 text-xs text-muted">
              {model.voices.map((voice) => (
                <span key={voice.voice} className="inline-flex items-center gap-1.5" title={voiceOf(voice.voice).help}>
                  <VoiceTag voice={voice.voice} />
                  <span className="num text-text">{bits(voice.contribution)} bits</span>
                  {voice.p_value !== null && <span>one of {count(Math.max(1, Math.round(1 / Math.max(voice.p_value, 1e-9))))} is like this</span>}
                </span>
              ))}
              <span className="ml-auto">
                compared with <Raw value={model.segment.replaceAll("_", " ")} /> clients, window {model.window}, version {model.model_version}
                {model.threshold !== null && `, threshold ${model.threshold.toFixed(3)}`}
              </span>
            </div>
            {model.reasons.length > 0 && (
              <details className="mt-2">
                <summary className="min-h-6 text-xs font-semibold text-accent">All {plural(model.reasons.length, "reason")} with their values</summary>
                <div className="pt-2">
                  <ReasonList reasons={model.reasons} />
                </div>
              </details>
            )}
          </>
        )}
      </div>
    </Card>
  );
}

/** Bars that start where the last one ended: what each reason adds, up to the total. */
function WaterfallChart({ waterfall }: { waterfall: Waterfall }) {
  const reach = Math.max(1, waterfall.total, ...waterfall.steps.map((step) => step.sum));
  const low = Math.min(0, ...waterfall.steps.map((step) => step.sum));
  const place = (at: number) => ((at - low) / (reach - low)) * 100;
  return (
    <table className="w-full table-fixed text-xs">
      <caption className="sr-only">What each reason adds, bits</caption>
      <thead className="sr-only">
        <tr>
          <th>Reason</th>
          <th>Share</th>
          <th>Bits</th>
        </tr>
      </thead>
      <tbody>
        {waterfall.steps.map((step) => {
          const start = step.sum - step.bits;
          return (
            <tr key={`${step.voice}/${step.feature}`} className="border-b border-line">
              <th scope="row" className="w-[52%] py-1.5 pr-3 text-left align-middle font-normal">
                <VoiceTag voice={step.voice} /> {step.feature === REST ? <span className="text-muted">everything that is not listed</span> : <Raw value={step.text} max={240} />}
              </th>
              <td aria-hidden="true" className="align-middle">
                <div className="relative h-4">
                  <div className="absolute inset-y-0 rounded-xs" style={{ left: `${place(Math.min(start, step.sum))}%`, width: `max(2px, ${(Math.abs(step.bits) / (reach - low)) * 100}%)`, background: `var(${voiceOf(step.voice).color})` }} />
                  <div className="absolute -bottom-2 h-3 w-px bg-line-strong" style={{ left: `${place(step.sum)}%` }} />
                </div>
              </td>
              <td className="num w-14 py-1.5 text-right align-middle">
                {step.bits >= 0 ? "+" : "−"}
                {bits(Math.abs(step.bits))}
              </td>
            </tr>
          );
        })}
        <tr className="font-semibold">
          <th scope="row" className="py-1.5 pr-3 text-left">
            Evidence in all
          </th>
          <td aria-hidden="true" className="align-middle">
            <div className="relative h-4">
              <div className="absolute inset-y-0 rounded-xs bg-muted" style={{ left: `${place(0)}%`, width: `${(Math.max(0, waterfall.total) / (reach - low)) * 100}%` }} />
            </div>
          </td>
          <td className="num py-1.5 text-right">{bits(waterfall.total)}</td>
        </tr>
      </tbody>
    </table>
  );
}

const EVENT_ICON: Readonly<Record<string, IconName>> = { detection: "alert", label: "person" };

function TimePanel({ client, page }: { client: ClientKey; page: PageState }) {
  const timeline = useQuery(timelineQuery(client, page.range));
  const scores = useQuery(scoresQuery(client, page.range));
  return (
    <Panel title="Timeline" query={timeline} rows={5}>
      {(data) => (
        <div className="p-2">
          <Requests points={data.points} stepS={data.step_s} page={page} />
          {scores.data && scores.data.scores.length > 1 && <ScoreLines data={scores.data.scores} />}
          {data.events.length > 0 && <Events events={data.events} />}
          <Cut truncated={data.truncated} />
        </div>
      )}
    </Panel>
  );
}

function Requests({ points, stepS, page }: { points: readonly { t: string; requests: number; errors: number }[]; stepS: number; page: PageState }) {
  const times = useMemo(() => points.map((point) => Date.parse(point.t)), [points]);
  const series = useMemo<Series[]>(
    () => [
      { name: "answered 400 and above", color: "--fill-warn", values: points.map((p) => p.errors) },
      { name: "other requests", color: "--fill-accent", values: points.map((p) => p.requests - p.errors) },
    ],
    [points],
  );
  return <Chart label="Requests of this client" times={times} stepMs={stepS * 1000} series={series} height={110} onBrush={page.brush} />;
}

const LINE_COLORS = ["--fill-alert", "--forest", "--consistency", "--group", "--robust-z", "--fill-rest"] as const;

function ScoreLines({ data }: { data: readonly { window_end: string; model_name: string; evidence_bits: number }[] }) {
  const { times, series } = useMemo(() => {
    const ends = [...new Set(data.map((one) => Date.parse(one.window_end)))].sort((a, b) => a - b);
    const models = [...new Set(data.map((one) => one.model_name))].sort();
    const at = new Map(data.map((one) => [`${one.model_name} ${Date.parse(one.window_end)}`, one.evidence_bits]));
    return { times: ends, series: models.map((name, i): Series => ({ name: `${name}, bits`, color: LINE_COLORS[i % LINE_COLORS.length] ?? "--fill-rest", values: ends.map((end) => at.get(`${name} ${end}`) ?? null) })) };
  }, [data]);
  const step = times.length > 1 ? Math.max(1000, ((times.at(-1) ?? 0) - (times[0] ?? 0)) / (times.length - 1)) : 60e3;
  return <Chart label="Evidence by model" kind="lines" unit="bits" times={times} stepMs={step} series={series} height={90} />;
}

function Events({ events }: { events: readonly { t: string; kind: string; text: string }[] }) {
  const { zone } = usePrefs();
  const shown = events.slice(-6).toReversed();
  return (
    <ol className="mt-1 flex flex-col gap-0.5 border-t border-line pt-2 text-xs" aria-label="Events, newest first">
      {shown.map((event) => (
        <li key={`${event.t} ${event.kind} ${event.text}`} className="flex gap-2">
          <Icon name={EVENT_ICON[event.kind] ?? "clock"} className="size-3.5 text-muted" />
          <time className="num shrink-0 text-muted">{stamp(event.t, zone)}</time>
          <span className="min-w-0 truncate">
            <Raw value={event.text} max={200} />
          </span>
        </li>
      ))}
      {events.length > shown.length && <li className="text-muted">and {count(events.length - shown.length)} earlier ones</li>}
    </ol>
  );
}

/** How far from the middle of its kind. */
const extreme = (percentile: number | null) => (percentile === null ? -1 : Math.abs(percentile - 50));

function NumbersPanel({ numbers }: { numbers: readonly Numbers[] }) {
  const [chosen, setChosen] = useState<string | null>(null);
  const [all, setAll] = useState(false);
  const shown = numbers.find((one) => one.model_name === chosen) ?? numbers[0];
  const features = useMemo(() => (shown?.features ?? []).filter((one) => one.value !== null).sort((a, b) => extreme(b.percentile) - extreme(a.percentile)), [shown]);
  const missing = (shown?.features.length ?? 0) - features.length;
  return (
    <Card
      title="Numbers against the median"
      actions={
        numbers.length > 1 && (
          <select aria-label="Model" className="field h-6 text-xs" value={shown?.model_name} onChange={(event) => setChosen(event.target.value)}>
            {numbers.map((one) => (
              <option key={one.model_name}>{one.model_name}</option>
            ))}
          </select>
        )
      }
    >
      {!shown || features.length === 0 ? (
        <Empty title="No numbers yet">They come with the first cycle that scores this client.</Empty>
      ) : (
        <>
          <table className="w-full text-xs">
            <thead>
              <tr>
                <th className="th pl-3">Feature</th>
                <th className="th w-28 text-right">This client</th>
                <th className="th w-28 text-right">Median</th>
                <th className="th w-56 pr-3">Among {count(shown.population)} of its kind</th>
              </tr>
            </thead>
            <tbody>
              {(all ? features : features.slice(0, 10)).map((one) => (
                <tr key={one.feature} className="border-t border-line">
                  <th scope="row" className="td pl-3 text-left font-normal" title={one.feature}>
                    {one.title || one.feature.replaceAll("_", " ")}
                    {one.unit && <span className="text-muted">, {one.unit}</span>}
                  </th>
                  <td className="td num text-right font-semibold">{value(one.value)}</td>
                  <td className="td num text-right text-muted">{value(one.median)}</td>
                  <td className="td pr-3">
                    <Percentile at={one.percentile} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
          <p className="flex items-center gap-3 border-t border-line px-3 py-1 text-xs text-muted">
            {features.length > 10 && (
              <button type="button" className="link min-h-6" aria-expanded={all} onClick={() => setAll(!all)}>
                {all ? "only the ten most extreme" : `all ${features.length}`}
              </button>
            )}
            {missing > 0 && `${plural(missing, "feature")} could not be measured for this client.`}
          </p>
        </>
      )}
    </Card>
  );
}

function History({ data }: { data: ClientPage }) {
  const { zone } = usePrefs();
  const now = useNow();
  const page = usePageState();
  const { recurrence, siblings, client } = data;
  return (
    <Card title="History">
      <div className="flex flex-col gap-4 p-3 text-xs">
        <div>
          <h3 className="label pb-1">Recurrence</h3>
          {recurrence ? (
            <p>
              Its address was flagged on <strong>{plural(recurrence.days_flagged, "day")}</strong> of the last 7, as {plural(recurrence.clients_flagged, "client")}; first {stamp(recurrence.first_flagged_at, zone, "minute")}, last {ago(recurrence.last_flagged_at, now)}; highest score {recurrence.score_max.toFixed(3)}.
            </p>
          ) : (
            <p className="text-muted">Its address was not flagged in the last 7 days.</p>
          )}
          {client.flagged_since && <p className="mt-1">This client is flagged since {stamp(client.flagged_since, zone, "minute")}, without a quiet day.</p>}
        </div>
        <div>
          <h3 className="label pb-1">Labels</h3>
          {data.labels.length === 0 ? (
            <p className="text-muted">No analyst has judged this client.</p>
          ) : (
            <ol className="flex flex-col gap-2">
              {data.labels.slice(0, 12).map((entry) => (
                <LabelAct key={`${entry.act_id} ${entry.at}`} entry={entry} />
              ))}
            </ol>
          )}
        </div>
        <div>
          <h3 className="label pb-1">Other clients with this address</h3>
          {siblings.length === 0 ? (
            <p className="text-muted">None in this span.</p>
          ) : (
            <ul className="flex flex-col gap-1">
              {siblings.map((one) => (
                <li key={`${one.ja4} ${one.host}`}>
                  <Link to="/client" search={{ ...one, from: page.search.from, to: page.search.to }} className="num link inline-block min-h-6">
                    <Raw value={one.ja4} empty="no TLS" max={40} /> on <Raw value={one.host} max={40} />
                  </Link>
                </li>
              ))}
            </ul>
          )}
        </div>
      </div>
    </Card>
  );
}

function LabelAct({ entry }: { entry: LabelEntry }) {
  const { zone } = usePrefs();
  return (
    <li className="border-l-2 border-line pl-2">
      <p className={`flex flex-wrap items-center gap-x-1.5 ${entry.undone ? "text-muted line-through" : ""}`}>
        {entry.label ? <LabelChip label={entry.label} /> : <span>label taken back{entry.before ? ` (was ${verdictText(entry.before).toLowerCase()})` : ""}</span>}
        <span className="text-muted">
          <Raw value={entry.author} max={40} />, {stamp(entry.at, zone)}
        </span>
      </p>
      {entry.note && (
        <p>
          “<Raw value={entry.note} max={200} expandable />”
        </p>
      )}
    </li>
  );
}

const FACTS: readonly { title: string; field: string | null; pick: (facts: ClientFacts) => readonly Shown[] }[] = [
  { title: "User-Agents", field: "user_agent", pick: (f) => f.user_agents },
  { title: "Header orders", field: "header_order", pick: (f) => f.header_orders },
  { title: "HTTP/2 settings", field: "h2_fp", pick: (f) => f.h2_fps },
  { title: "HTTP versions", field: "http_version", pick: (f) => f.http_versions },
  { title: "Methods", field: "method", pick: (f) => f.methods },
  { title: "Statuses", field: "status", pick: (f) => f.statuses },
  { title: "Paths", field: "path_template", pick: (f) => f.paths },
  { title: "Joins", field: "match", pick: (f) => f.matches },
  { title: "Request and connection disagree on", field: null, pick: (f) => f.contradictions },
];

function FactsPanel({ facts }: { facts: ClientFacts }) {
  const tls: readonly (readonly [string, ReactNode])[] = [
    ["Connections", count(facts.connections)],
    ["Distinct paths", count(facts.n_paths)],
    ["JA4, normalised", <Raw key="v" value={facts.ja4_norm} empty="–" max={60} />],
    ["JA3", <Raw key="v" value={facts.ja3} empty="–" max={60} />],
    ["ALPN", <Raw key="v" value={facts.alpn} empty="none offered" max={60} />],
    ["TLS", <Raw key="v" value={facts.tls_version} empty="–" max={20} />],
    ["Server name", <Raw key="v" value={facts.sni} empty="none sent" max={120} expandable />],
    [
      "TCP of the SYN",
      facts.tcp ? `TTL ${facts.tcp.ttl}, window ${count(facts.tcp.window)}, MSS ${facts.tcp.mss || "none"}, scale ${facts.tcp.wscale === 255 ? "none" : facts.tcp.wscale}, options ${facts.tcp.options}` : "not seen",
    ],
  ];
  return (
    <Card title="What it showed">
      <dl className="grid grid-cols-[8.5rem_1fr] gap-x-2 gap-y-1 p-3 text-xs">
        {tls.map(([name, shown]) => (
          <div key={name} className="contents">
            <dt className="text-muted">{name}</dt>
            <dd className="num min-w-0 wrap-anywhere">{shown}</dd>
          </div>
        ))}
      </dl>
      <div className="flex flex-col gap-3 border-t border-line p-3 text-xs">
        {FACTS.map(({ title, field, pick }) => {
          const values = pick(facts);
          if (values.length === 0) return null;
          return (
            <section key={title} aria-label={title}>
              <h3 className="label pb-0.5">{title}</h3>
              <ul>
                {values.slice(0, 8).map((one) => (
                  <li key={one.value} className="flex min-h-6 items-baseline gap-2">
                    <span className="num min-w-0 flex-1">
                      {field && !one.cut ? (
                        <Value field={field} value={one.value} group={one.hash ? { kind: "header_order", value: one.hash } : undefined} max={140} />
                      ) : (
                        <Raw value={one.value} max={140} expandable />
                      )}
                      {one.cut && <span className="text-muted"> (cut)</span>}
                    </span>
                    <span className="num text-muted">{count(one.requests)}</span>
                  </li>
                ))}
              </ul>
              {values.length > 8 && <p className="text-muted">and {values.length - 8} more</p>}
            </section>
          );
        })}
      </div>
    </Card>
  );
}
