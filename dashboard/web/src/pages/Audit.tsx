// Audit: what users did, newest first, and what analysts decided.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { Problem } from "../api/client";
import { auditQuery, labelsQuery } from "../api/queries";
import type { AuditEntry, LabelEntry } from "../api/types";
import { count, plural } from "../lib/format";
import { usePrefs } from "../lib/prefs";
import { stamp, zoneName } from "../lib/time";
import { Raw } from "../ui/Raw";
import { Age, Body, Cut, Empty } from "../ui/States";
import { Toolbar, usePageState, type PageState } from "../ui/Toolbar";
import { LabelChip, verdictText } from "../ui/Verdict";
import { useVerdicts } from "../ui/Verdicts";
import { useKeys } from "../lib/keys";

const ACTS: Readonly<Record<string, string>> = {
  login: "logged in",
  login_failed: "failed to log in",
  logout: "logged out",
  label: "labelled",
  label_undo: "took a label back",
  export: "exported",
  rules: "made rules",
  password: "set a password",
  query: "asked",
};

export default function Audit() {
  const page = usePageState();
  const audit = useQuery(auditQuery(page.range));
  const labels = useQuery(labelsQuery(page.range));
  const verdicts = useVerdicts();
  useKeys({ z: verdicts.undo });
  const denied = audit.error instanceof Problem && audit.error.status === 403;
  return (
    <>
      <Toolbar title="Audit" state={page} filter={false} />
      <div className="grid min-h-0 flex-1 grid-cols-1 gap-3 p-3 xl:grid-cols-2">
        <section aria-label="Acts of users" className="card flex max-h-[80dvh] min-h-72 flex-col overflow-hidden xl:max-h-none">
          <header className="flex min-h-9 items-center gap-2 border-b border-line px-3">
            <h2 className="text-sm font-semibold">Acts of users</h2>
            <span className="flex-1" />
            <Age query={audit} />
          </header>
          {denied ? (
            <Empty title="For administrators">Your role does not see what other users did. What analysts decided is beside this.</Empty>
          ) : (
            <Body query={audit} rows={10}>
              {(data) => (
                <>
                  <Acts entries={data.entries} />
                  <Cut truncated={data.truncated} what="acts" />
                </>
              )}
            </Body>
          )}
        </section>
        <section aria-label="Labels" className="card flex max-h-[80dvh] min-h-72 flex-col overflow-hidden xl:max-h-none">
          <header className="flex min-h-9 items-center gap-2 border-b border-line px-3">
            <h2 className="text-sm font-semibold">What analysts decided</h2>
            <span className="flex-1" />
            <Age query={labels} />
          </header>
          <Body query={labels} rows={10}>
            {(data) => (
              <>
                <Labels entries={data.labels} page={page} />
                <Cut truncated={data.truncated} what="labels" />
              </>
            )}
          </Body>
        </section>
      </div>
    </>
  );
}

function Acts({ entries }: { entries: readonly AuditEntry[] }) {
  const { zone } = usePrefs();
  const [act, setAct] = useState("");
  const kinds = useMemo(() => [...new Set(entries.map((one) => one.act))].sort(), [entries]);
  const shown = act ? entries.filter((one) => one.act === act) : entries;
  if (entries.length === 0) return <Empty title="Nobody did anything in this span" />;
  return (
    <>
      <div className="flex items-center gap-3 border-b border-line px-3 py-1 text-xs text-muted">
        <label className="flex items-center gap-1.5">
          show
          <select className="field h-6 text-xs text-text" value={act} onChange={(event) => setAct(event.target.value)}>
            <option value="">all acts</option>
            {kinds.map((one) => (
              <option key={one} value={one}>
                {ACTS[one] ?? one}
              </option>
            ))}
          </select>
        </label>
        <span role="status">{plural(shown.length, "act")}</span>
      </div>
      <div className="min-h-0 flex-1 overflow-auto" tabIndex={0} role="group" aria-label="Acts">
        <table className="w-full text-xs">
          <thead className="sticky top-0 bg-raised">
            <tr>
              <th className="th pl-3">When, {zoneName(zone)}</th>
              <th className="th min-w-20">Who</th>
              <th className="th">Did what</th>
              <th className="th w-full">On what</th>
              <th className="th pr-3 whitespace-nowrap">From where</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((one) => (
              <tr key={`${one.at} ${one.act} ${one.object}`} className="border-t border-line align-top">
                <td className="td num pl-3 whitespace-nowrap">{stamp(one.at, zone, "second", false)}</td>
                <td className="td">
                  <Raw value={one.user} max={40} empty="nobody" />
                </td>
                <td className={`td whitespace-nowrap ${one.act === "login_failed" ? "text-alert" : ""}`}>{ACTS[one.act] ?? <Raw value={one.act} />}</td>
                <td className="td min-w-0">
                  <Raw value={one.object} max={120} empty="–" className="num" />
                  <Detail detail={one.detail} />
                </td>
                <td className="td num pr-3">
                  <Raw value={one.remote_ip} max={45} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** A value of a detail: lists and objects as their values, without the marks of JSON. */
function inWords(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  return Object.values(value).map(inWords).filter(Boolean).join(" ");
}

function Detail({ detail }: { detail: unknown }) {
  if (typeof detail !== "object" || detail === null) return null;
  const entries = Object.entries(detail).filter(([, value]) => value !== "" && value !== null);
  if (entries.length === 0) return null;
  return (
    <span className="block text-2xs text-muted">
      {entries.slice(0, 8).map(([name, value]) => (
        <span key={name} className="mr-3 inline-block">
          <Raw value={name.replaceAll("_", " ")} max={40} />: <Raw value={inWords(value)} max={160} className="text-text" />
        </span>
      ))}
    </span>
  );
}

function Labels({ entries, page }: { entries: readonly LabelEntry[]; page: PageState }) {
  const { zone } = usePrefs();
  if (entries.length === 0) return <Empty title="No verdicts in this span">Give one in triage or on a client's page with the keys 1 to 4.</Empty>;
  return (
    <div className="min-h-0 flex-1 overflow-auto" tabIndex={0} role="group" aria-label="Labels">
      <p className="border-b border-line px-3 py-1 text-xs text-muted">
        {count(entries.filter((one) => one.label && !one.undone).length)} verdicts that stand, {count(entries.filter((one) => one.undone).length)} taken back
      </p>
      <table className="w-full text-xs">
        <thead className="sticky top-0 bg-raised">
          <tr>
            <th className="th pl-3">When, {zoneName(zone)}</th>
            <th className="th min-w-36">Verdict</th>
            <th className="th min-w-36">Client</th>
            <th className="th w-full pr-3">Note</th>
          </tr>
        </thead>
        <tbody>
          {entries.map((one) => (
            <tr key={`${one.act_id} ${one.client.src_ip} ${one.client.ja4} ${one.client.host}`} className="border-t border-line align-top">
              <td className="td num pl-3 whitespace-nowrap">{stamp(one.at, zone, "second", false)}</td>
              <td className="td">
                {one.label ? <LabelChip label={one.label} /> : <span>taken back{one.before ? `: ${verdictText(one.before).toLowerCase()}` : ""}</span>}
                <span className="block text-2xs text-muted">
                  <Raw value={one.author} max={40} />
                  {one.undone ? ", taken back since" : ""}
                </span>
              </td>
              <td className="td min-w-0">
                <Link to="/client" search={{ ...one.client, from: page.search.from, to: page.search.to }} className="num link">
                  <Raw value={one.client.src_ip} />
                </Link>
                <span className="block text-2xs text-muted">
                  <Raw value={one.client.host} max={60} />
                </span>
              </td>
              <td className="td pr-3">
                <Raw value={one.note} max={200} empty="no note" />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
