// The truth card of the demo: who was what, beside where the ranking put them. The detector never sees it.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { clientsQuery, keyOf, truthQuery } from "../api/queries";
import { bits, count, plural } from "../lib/format";
import { usePrefs } from "../lib/prefs";
import { stamp } from "../lib/time";
import { lay, readCard, type Placed } from "../lib/truth";
import { Icon, type IconName } from "../ui/Icon";
import { Raw } from "../ui/Raw";
import { Body, Empty } from "../ui/States";
import { Toolbar, usePageState } from "../ui/Toolbar";
import { VerdictChip } from "../ui/Verdict";

const ROLE: Readonly<Record<string, IconName>> = { bot: "bot", person: "person", app: "group", machine: "shield" };

export default function Truth() {
  const page = usePageState();
  const { zone } = usePrefs();
  const truth = useQuery(truthQuery());
  const ranking = useInfiniteQuery(clientsQuery("", page.range, "evidence", 500));
  const rows = useMemo(() => ranking.data?.pages.flatMap((one) => one.clients) ?? [], [ranking.data]);
  const card = useMemo(() => readCard(truth.data), [truth.data]);
  const outcome = useMemo(() => (card ? lay(card, rows) : null), [card, rows]);
  return (
    <>
      <Toolbar title="Truth card" state={page} filter={false} />
      <div className="flex flex-col gap-3 p-3">
        <Body query={truth} rows={10}>
          {() =>
            !card || !outcome ? (
              <Empty title="There is no truth card yet">The demo writes it while it runs.</Empty>
            ) : (
              <div className="flex flex-col gap-3">
                <section aria-label="Outcome" className="card p-4">
                  <p className="text-base">
                    {outcome.bots === 0 ? (
                      "There were no bots."
                    ) : (
                      <>
                        <strong className="num">
                          {count(outcome.caught)} of {count(outcome.bots)}
                        </strong>{" "}
                        bots stand within the first {count(outcome.bots + 5)} places.
                      </>
                    )}{" "}
                    {outcome.wronged.length === 0 ? "Nobody else was flagged." : <strong className="text-alert">{plural(outcome.wronged.length, "other client was", "other clients were")} flagged wrongly.</strong>}
                  </p>
                  <p className="mt-1 text-xs text-muted">
                    Written by the demo at {card.written_at ? stamp(card.written_at, zone) : "an unknown time"}
                    {card.seed !== null && `, seed ${card.seed}`}. The detector never sees this card; the ranking is that of the time range above. Clients behind one address are told apart by the family of their User-Agent; those with the same one share a place, and are marked.
                  </p>
                </section>
                {(outcome.missed.length > 0 || outcome.wronged.length > 0) && (
                  <section aria-label="Where the ranking was wrong" className="card overflow-hidden">
                    <h2 className="border-b border-line px-3 py-2 text-sm font-semibold">Where the ranking was wrong</h2>
                    <Lines placed={[...outcome.missed, ...outcome.wronged]} />
                  </section>
                )}
                <section aria-label="Who was what" className="card overflow-hidden">
                  <h2 className="border-b border-line px-3 py-2 text-sm font-semibold">Who was what, in the order of the ranking</h2>
                  <Lines placed={outcome.placed} />
                </section>
              </div>
            )
          }
        </Body>
      </div>
    </>
  );
}

function Lines({ placed }: { placed: readonly Placed[] }) {
  const page = usePageState();
  return (
    <div className="overflow-x-auto">
      <table className="w-full text-xs">
        <thead>
          <tr>
            <th className="th w-16 pl-3 text-right">Place</th>
            <th className="th w-36">Who</th>
            <th className="th">What it was</th>
            <th className="th w-40">Address</th>
            <th className="th w-28 text-right">Evidence</th>
            <th className="th w-28">Verdict</th>
            <th className="th pr-3">What gives it away</th>
          </tr>
        </thead>
        <tbody>
          {placed.map((one) => (
            <tr key={`${one.name} ${one.src_ip}`} className="border-t border-line align-top">
              <td className="td num pl-3 text-right">{one.rank ?? "–"}</td>
              <td className={`td font-semibold ${one.role === "bot" ? "text-alert" : ""}`}>
                <Icon name={ROLE[one.role] ?? "question"} className="mr-1 inline size-3.5" />
                <Raw value={one.name} max={40} />
              </td>
              <td className="td">
                <Raw value={one.what || one.kind} max={120} />
                {one.behind_nat && <span className="text-muted"> (behind the shared address)</span>}
                {one.shares.length > 0 && (
                  <div className="text-muted">
                    cannot be told from <Raw value={one.shares.join(", ")} max={80} expandable />
                  </div>
                )}
              </td>
              <td className="td num">
                {one.row ? (
                  <Link to="/client" search={{ ...keyOf(one.row), from: page.search.from, to: page.search.to }} className="link">
                    <Raw value={one.src_ip} />
                  </Link>
                ) : (
                  <Raw value={one.src_ip} />
                )}
              </td>
              <td className="td num text-right">{one.row?.evidence_bits === null || !one.row ? "–" : bits(one.row.evidence_bits)}</td>
              <td className="td">{one.row ? <VerdictChip verdict={one.row.verdict} /> : <span className="text-muted">not seen</span>}</td>
              <td className="td pr-3">
                <Raw value={one.causes.join(", ")} max={120} empty="–" />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
