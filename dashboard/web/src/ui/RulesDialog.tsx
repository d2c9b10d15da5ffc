// Now what: the selected clients as rules for what stands in front, with what they would have hit in the last 24 hours.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useId, useState } from "react";
import { makeRules } from "../api/queries";
import type { ClientKey, RulesFormat, RulesMatch } from "../api/types";
import { count, plural } from "../lib/format";
import { save } from "../lib/save";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";
import { Raw } from "./Raw";
import { Failed, Loading } from "./States";
import { toast } from "./Toasts";

const FORMATS: readonly { format: RulesFormat; text: string }[] = [
  { format: "nginx_map", text: "nginx map" },
  { format: "nftables_set", text: "nftables set" },
  { format: "haproxy_map", text: "HAProxy map" },
  { format: "crowdsec", text: "CrowdSec" },
];

const MATCHES: readonly { match: RulesMatch; text: string; formats: readonly RulesFormat[] }[] = [
  { match: "address", text: "the address, whatever it asks", formats: ["nginx_map", "nftables_set", "haproxy_map", "crowdsec"] },
  { match: "address_host", text: "the address on this host", formats: ["nginx_map", "haproxy_map"] },
  { match: "ja4", text: "the JA4, whoever has it", formats: ["nginx_map", "haproxy_map"] },
];

export function RulesDialog({ clients, onClose }: { clients: ClientKey[]; onClose: () => void }) {
  const [format, setFormat] = useState<RulesFormat>("nginx_map");
  const [wanted, setMatch] = useState<RulesMatch>("address");
  const id = useId();
  const match = MATCHES.find((one) => one.match === wanted)?.formats.includes(format) ? wanted : "address";
  const query = useQuery({ queryKey: ["rules", format, match, clients], queryFn: () => makeRules(clients, format, match), placeholderData: keepPreviousData, staleTime: Infinity, retry: false });
  const rules = query.data;
  return (
    <Dialog
      title={`Now what: rules for ${plural(clients.length, "client")}`}
      onClose={onClose}
      wide
      footer={
        rules && (
          <>
            <button type="button" className="btn" onClick={() => save(rules.filename, rules.text)}>
              <Icon name="download" />
              Save as <Raw value={rules.filename} />
            </button>
            <button
              type="button"
              className="btn btn-primary"
              onClick={() => {
                navigator.clipboard.writeText(rules.text).then(
                  () => toast({ tone: "ok", text: `copied ${plural(rules.n_rules, "rule")}` }),
                  () => toast({ tone: "alert", text: "the browser did not let this page write to the clipboard: select the text and copy it" }),
                );
              }}
            >
              <Icon name="copy" />
              Copy
            </button>
          </>
        )
      }
    >
      <div className="flex flex-col gap-4">
        <div className="flex flex-wrap items-end gap-4">
          <fieldset className="flex flex-wrap gap-1.5">
            <legend className="label pb-1">Copy as</legend>
            {FORMATS.map((one) => (
              <label key={one.format} className="btn has-checked:border-accent has-checked:bg-accent-soft has-checked:font-semibold has-focus-visible:outline-2 has-focus-visible:outline-accent">
                <input type="radio" name={`${id}-format`} className="sr-only" checked={format === one.format} onChange={() => setFormat(one.format)} />
                {one.text}
              </label>
            ))}
          </fieldset>
          <label className="flex flex-col gap-1">
            <span className="label">What it matches</span>
            <select className="field" value={match} onChange={(event) => setMatch(event.target.value as RulesMatch)}>
              {MATCHES.filter((one) => one.formats.includes(format)).map((one) => (
                <option key={one.match} value={one.match}>
                  {one.text}
                </option>
              ))}
            </select>
          </label>
        </div>
        {query.isError && !rules ? (
          <Failed error={query.error} retry={() => void query.refetch()} />
        ) : !rules ? (
          <Loading rows={6} label="Making rules" />
        ) : (
          <div className={`flex flex-col gap-3 ${query.isPlaceholderData ? "opacity-60" : ""}`}>
            <Hit hit={rules.would_hit} />
            <p className="text-xs text-muted">
              <Raw value={rules.usage} max={500} />
            </p>
            <pre tabIndex={0} aria-label="Rules" className="num max-h-72 overflow-auto rounded-md border border-line bg-bg p-3 text-xs whitespace-pre">
              {rules.text}
            </pre>
            {rules.skipped.length > 0 && (
              <div className="text-xs">
                <p className="font-semibold text-warn">No rule was made for {plural(rules.skipped.length, "client")}:</p>
                <ul className="mt-1 flex flex-col gap-1">
                  {rules.skipped.slice(0, 20).map((one) => (
                    <li key={`${one.client.src_ip} ${one.client.ja4} ${one.client.host}`}>
                      <Raw value={one.client.src_ip} className="num" /> on <Raw value={one.client.host} className="num" />: <Raw value={one.why} max={300} />
                    </li>
                  ))}
                </ul>
              </div>
            )}
          </div>
        )}
      </div>
    </Dialog>
  );
}

function Hit({ hit }: { hit: { requests: number; clients: number; legitimate_clients: number; legitimate_examples: ClientKey[] } }) {
  const harm = hit.legitimate_clients > 0;
  return (
    <div className={`rounded-md border px-3 py-2 text-sm ${harm ? "border-alert bg-alert-soft" : "border-line bg-raised"}`}>
      <p>
        In the last 24 hours it would have hit <strong className="num">{count(hit.requests)}</strong> requests of <strong className="num">{count(hit.clients)}</strong> {hit.clients === 1 ? "client" : "clients"};{" "}
        {harm ? (
          <strong className="text-alert">
            <Icon name="alert" className="mr-1 inline" />
            {plural(hit.legitimate_clients, "client")} of these {hit.legitimate_clients === 1 ? "is" : "are"} labelled legitimate.
          </strong>
        ) : (
          "none of them labelled legitimate."
        )}
      </p>
      {hit.legitimate_examples.length > 0 && (
        <ul className="mt-1 text-xs">
          {hit.legitimate_examples.slice(0, 5).map((one) => (
            <li key={`${one.src_ip} ${one.ja4} ${one.host}`} className="num">
              <Raw value={one.src_ip} /> · <Raw value={one.ja4} empty="no TLS" /> · <Raw value={one.host} />
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
