// Export of exactly what is filtered, not of the rows that happen to be shown.
import { useEffect, useRef } from "react";
import { toProblem } from "../api/client";
import { exportUrl } from "../api/queries";
import type { ClientSort } from "../api/types";
import { count, plural } from "../lib/format";
import { save } from "../lib/save";
import type { Range } from "../lib/time";
import { Icon } from "./Icon";
import { Pop } from "./Pop";
import { reasonOf } from "./States";
import { toast } from "./Toasts";

interface Props {
  what: "clients" | "requests";
  q: string;
  range: Range;
  sort?: ClientSort;
  /** Counts up when the key for it was pressed. */
  opened: number;
}

async function download({ what, q, range, sort }: Props, format: "csv" | "ndjson"): Promise<void> {
  try {
    const response = await fetch(exportUrl(what, format, q, range, sort), { headers: { accept: "*/*" } });
    if (!response.ok) throw toProblem(response.status, await response.json().catch(() => null));
    const name = /filename="?([\w.-]+)"?/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? `${what}.${format}`;
    save(name, await response.blob());
    const rows = response.headers.get("x-rows");
    const cut = response.headers.get("x-truncated");
    toast(cut ? { tone: "alert", text: `the export was cut at ${count(Number(cut))} rows: narrow the time or the filter for the rest` } : { tone: "ok", text: `exported ${rows ? plural(Number(rows), "row") : what} as ${name}` });
  } catch (error) {
    toast({ tone: "alert", text: `not exported: ${reasonOf(error)}` });
  }
}

export function Export(props: Props) {
  const host = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (props.opened > 0) host.current?.querySelector("button")?.click();
  }, [props.opened]);
  return (
    <span ref={host}>
      <Pop
        triggerClass="btn shrink-0"
        label={`Export all ${props.what} that pass the filter`}
        align="end"
        trigger={
          <>
            <Icon name="download" className="text-muted" />
            Export
          </>
        }
      >
        {(close) => (
          <>
            <p className="px-2 py-1 text-xs text-muted">All {props.what} that pass the filter</p>
            {FORMATS.map(({ format, text, hint }) => (
              <button
                key={format}
                type="button"
                className="flex h-8 w-full items-center gap-6 rounded px-2 text-left hover:bg-accent-soft"
                onClick={() => {
                  close();
                  void download(props, format);
                }}
              >
                {text} <span className="ml-auto text-xs text-muted">{hint}</span>
              </button>
            ))}
          </>
        )}
      </Pop>
    </span>
  );
}

const FORMATS = [
  { format: "csv", text: "CSV", hint: "formulas neutralised" },
  { format: "ndjson", text: "NDJSON", hint: "one object a line" },
] as const;
