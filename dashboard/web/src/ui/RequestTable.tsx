// Requests, newest first: a virtual table whose columns are chosen, every value with its menu; Enter shows all columns.
import { columnVisibilityFeature, createColumnHelper, tableFeatures, useTable } from "@tanstack/react-table";
import { useQuery } from "@tanstack/react-query";
import { useRouterState } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, useState, type ReactNode } from "react";
import { fieldsQuery, requestQuery } from "../api/queries";
import type { ClientKey, RequestColumn, RequestRow } from "../api/types";
import { bytes, count } from "../lib/format";
import { usePrefs } from "../lib/prefs";
import { duration, stamp, zoneName, type Zone } from "../lib/time";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";
import { Pop } from "./Pop";
import { Raw } from "./Raw";
import { Body } from "./States";
import { Value } from "./ValueMenu";
import { RecordedChip } from "./Verdict";

const ROW_PX = 32;
const COLUMNS_KEY = "ja4-request-columns";

const features = tableFeatures({ columnVisibilityFeature });
const helper = createColumnHelper<typeof features, RequestRow>();

interface Shown {
  head: string;
  /** Width as a track of the grid. */
  track: string;
  cell: (row: RequestRow, zone: Zone, tab: number) => ReactNode;
}

const clientOf = (row: RequestRow) => ({ src_ip: row.src_ip, ja4: row.ja4, host: row.host });
const field = (name: string, pick: (row: RequestRow) => string, max = 60) => (row: RequestRow, _zone: Zone, tab: number) => (
  <Value field={name} value={pick(row)} client={name === "src_ip" || name === "ja4" ? clientOf(row) : undefined} max={max} tabIndex={tab} className="num truncate" />
);

const SHOWN: Readonly<Record<string, Shown>> = {
  ts: {
    head: "Time",
    track: "11.2rem",
    cell: (row, zone) => (
      <span className="flex items-center gap-1">
        <time className="num" dateTime={row.ts}>
          {stamp(row.ts, zone, "milli", false)}
        </time>
        {row.recorded && <Icon name="rewind" className="size-3 text-accent" />}
        {row.recorded && <span className="sr-only">recorded</span>}
      </span>
    ),
  },
  src_ip: { head: "Address", track: "9rem", cell: field("src_ip", (row) => row.src_ip) },
  method: { head: "Method", track: "4.5rem", cell: field("method", (row) => row.method, 12) },
  status: {
    head: "Status",
    track: "4rem",
    cell: (row, _zone, tab) => (row.status === 0 ? <span className="text-muted" title="the end of the request was not seen">–</span> : <Value field="status" value={String(row.status)} tabIndex={tab} className={`num ${row.status >= 400 ? "font-semibold text-alert" : ""}`} />),
  },
  host: { head: "Host", track: "minmax(6rem,1fr)", cell: field("host", (row) => row.host) },
  path: { head: "Path", track: "minmax(8rem,3fr)", cell: (row, _zone, tab) => (
    <span className="flex items-center overflow-hidden">
      <Value field="path" value={row.path} max={120} tabIndex={tab} className="num truncate" />
      {row.query !== "" && (
        <span className="num truncate text-muted">
          ?<Raw value={row.query} max={80} />
        </span>
      )}
    </span>
  ) },
  user_agent: { head: "User-Agent", track: "minmax(7rem,2fr)", cell: field("user_agent", (row) => row.user_agent, 100) },
  ua_family: { head: "Claims", track: "8rem", cell: field("ua_family", (row) => row.ua_family, 30) },
  ja4: { head: "JA4", track: "minmax(7rem,1.4fr)", cell: field("ja4", (row) => row.ja4, 44) },
  match: { head: "Join", track: "5.5rem", cell: field("match", (row) => row.match, 12) },
  country: { head: "Country", track: "4.5rem", cell: field("country", (row) => row.country, 8) },
  asn: { head: "AS", track: "5rem", cell: field("asn", (row) => String(row.asn), 12) },
  duration_us: { head: "Took", track: "4.5rem", cell: (row) => <span className="num block text-right">{row.duration_us > 0 ? duration(row.duration_us / 1000) : "–"}</span> },
  bytes_sent: { head: "Sent", track: "5.5rem", cell: (row) => <span className="num block text-right">{bytes(row.bytes_sent)}</span> },
};

const columns = helper.columns(Object.keys(SHOWN).map((name) => helper.accessor((row) => row[name as keyof RequestRow], { id: name })));
const HIDDEN_AT_FIRST: Readonly<Record<string, boolean>> = { ua_family: false, country: false, asn: false, match: false, bytes_sent: false };

function storedColumns(): Record<string, boolean> {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(COLUMNS_KEY) ?? "null");
    if (typeof stored === "object" && stored !== null) return stored as Record<string, boolean>;
  } catch {
    // Something else is stored here: the default columns do.
  }
  return { ...HIDDEN_AT_FIRST };
}

interface Props {
  rows: readonly RequestRow[];
  selected: string | undefined;
  onSelect: (id: string) => void;
  onOpen: (row: RequestRow) => void;
  onEnd?: () => void;
  label: string;
  /** Columns that say the same on every row of this page. */
  without?: readonly string[];
  /** Placed beside the column chooser. */
  head?: ReactNode;
}

export const requestId = (row: RequestRow) => `${row.boot}-${row.seq}`;

export function RequestTable({ rows, selected, onSelect, onOpen, onEnd, label, without = [], head }: Props) {
  const { zone } = usePrefs();
  const [visibility, setVisibility] = useState(storedColumns);
  const table = useTable({
    features,
    columns,
    data: rows as RequestRow[],
    getRowId: requestId,
    state: { columnVisibility: { ...visibility, ...Object.fromEntries(without.map((name) => [name, false])) } },
    onColumnVisibilityChange: (next) => {
      const value = typeof next === "function" ? next(visibility) : next;
      setVisibility(value);
      localStorage.setItem(COLUMNS_KEY, JSON.stringify(value));
    },
  });
  const shown = table.getVisibleLeafColumns().map((column) => column.id);
  const tracks = shown.map((name) => SHOWN[name]?.track ?? "1fr").join(" ");
  const scroller = useRef<HTMLDivElement>(null);
  // oxlint-disable-next-line react/incompatible-library
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => scroller.current, estimateSize: () => ROW_PX, overscan: 12 });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  const at = rows.findIndex((row) => requestId(row) === selected);

  useEffect(() => {
    if (at >= 0) virtual.scrollToIndex(at, { align: "auto" });
  }, [at, virtual]);
  useEffect(() => {
    if (onEnd && rows.length > 0 && last >= rows.length - 20) onEnd();
  }, [last, rows.length, onEnd]);

  return (
    <div className="flex h-full min-h-0 flex-col">
      <div className="flex min-h-9 items-center gap-2 border-b border-line px-3 py-1 text-xs text-muted">
        {head}
        <span className="flex-1" />
        <Pop
          triggerClass="btn btn-sm"
          label="Columns"
          align="end"
          className="p-2"
          trigger={
            <>
              Columns
              <Icon name="chevron" />
            </>
          }
        >
          {() =>
            table.getAllLeafColumns().map((column) => (
              <label key={column.id} className="flex h-7 items-center gap-2 rounded px-2 hover:bg-raised">
                <input type="checkbox" className="size-4 accent-accent" disabled={without.includes(column.id)} checked={column.getIsVisible()} onChange={column.getToggleVisibilityHandler()} />
                {SHOWN[column.id]?.head}
              </label>
            ))
          }
        </Pop>
      </div>
      <div
        ref={scroller}
        role="grid"
        aria-label={label}
        aria-rowcount={rows.length + 1}
        aria-activedescendant={at >= 0 ? `request-${selected}` : undefined}
        tabIndex={0}
        data-request-list
        className="min-h-0 flex-1 overflow-auto text-xs -outline-offset-2"
        onKeyDown={(event) => {
          if (event.target !== event.currentTarget) return;
          const row = rows[at];
          if (event.key === "Enter" && row) {
            event.preventDefault();
            onOpen(row);
          }
        }}
      >
        <div className="min-w-[62rem]">
          <div role="rowgroup" className="sticky top-0 z-10 border-b border-line bg-raised">
            <div role="row" aria-rowindex={1} className="grid gap-2 px-3" style={{ gridTemplateColumns: tracks }}>
              {shown.map((name) => (
                <div key={name} role="columnheader" className="py-1.5 text-2xs font-semibold tracking-wide text-muted uppercase">
                  {SHOWN[name]?.head}
                  {name === "ts" && `, ${zoneName(zone)}`}
                </div>
              ))}
            </div>
          </div>
          <div role="rowgroup" className="relative" style={{ height: virtual.getTotalSize() }}>
            {items.map((item) => {
              const row = rows[item.index];
              if (!row) return null;
              const id = requestId(row);
              const active = id === selected;
              return (
                // oxlint-disable-next-line jsx-a11y/click-events-have-key-events -- the table has the keys: j, k, Enter
                <div
                  key={id}
                  role="row"
                  id={`request-${id}`}
                  aria-rowindex={item.index + 2}
                  aria-selected={active}
                  className={`absolute left-0 grid w-full items-center gap-2 border-b border-line px-3 ${active ? "bg-accent-soft shadow-[inset_3px_0_0_var(--accent)]" : "hover:bg-raised"}`}
                  style={{ top: item.start, height: ROW_PX, gridTemplateColumns: tracks }}
                  onClick={() => onSelect(id)}
                  onDoubleClick={() => onOpen(row)}
                >
                  {shown.map((name) => (
                    <div key={name} role="gridcell" className="min-w-0 truncate">
                      {SHOWN[name]?.cell(row, zone, active ? 0 : -1)}
                    </div>
                  ))}
                </div>
              );
            })}
          </div>
        </div>
      </div>
    </div>
  );
}

/** Whether a column says nothing on this request. */
function empty(value: unknown): boolean {
  return ["", "0", "::", "{}", "none"].includes(plain(value));
}

/** Every column of one request. */
export function RequestDialog({ row, onClose }: { row: RequestRow; onClose: () => void }) {
  const { zone } = usePrefs();
  const query = useQuery(requestQuery(row));
  const fields = useQuery(fieldsQuery());
  const filterable = new Set((fields.data?.fields ?? []).map((one) => one.name));
  // An entry of a value's menu leads elsewhere: the dialog does not stay in the way.
  const href = useRouterState({ select: (s) => s.location.href });
  const [opened] = useState(href);
  useEffect(() => {
    if (href !== opened) onClose();
  }, [href, opened, onClose]);
  const [all, setAll] = useState(false);
  return (
    <Dialog title={`Request of ${stamp(row.ts, zone, "milli")}`} onClose={onClose} wide>
      <Body query={query} rows={12}>
        {(data) => {
          const shown = all ? data.columns : data.columns.filter((column) => !empty(column.value));
          return (
            <>
              <div className="mb-2 flex items-center gap-3">
                {data.recorded && <RecordedChip what="recorded earlier and replayed" />}
                <label className="flex items-center gap-2 text-xs text-muted">
                  <input type="checkbox" className="size-4 accent-accent" checked={all} onChange={() => setAll(!all)} />
                  also the {count(data.columns.length - data.columns.filter((column) => !empty(column.value)).length)} empty columns
                </label>
              </div>
              <dl className="grid grid-cols-[12rem_1fr] text-xs">
                {shown.map((column) => (
                  <div key={column.name} className="col-span-2 grid grid-cols-subgrid border-t border-line py-1">
                    <dt className="num text-muted" title={column.comment}>
                      {column.name}
                    </dt>
                    <dd className="min-w-0">
                      <ColumnValue column={column} filterable={filterable.has(column.name)} client={clientOf(row)} />
                      <span className="block text-2xs text-muted">{column.comment}</span>
                    </dd>
                  </div>
                ))}
              </dl>
            </>
          );
        }}
      </Body>
    </Dialog>
  );
}

function plain(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return JSON.stringify(value);
}

function ColumnValue({ column, filterable, client }: { column: RequestColumn; filterable: boolean; client: ClientKey }) {
  const { value } = column;
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return (
      <ul>
        {Object.entries(value).map(([name, text]) => (
          <li key={name} className="num">
            <span className="text-muted">
              <Raw value={name} />:
            </span>{" "}
            <Raw value={plain(text)} max={300} expandable />
          </li>
        ))}
      </ul>
    );
  }
  return (
    <span className="num">
      {filterable && plain(value).length < 400 ? (
        <Value field={column.name} value={plain(value)} max={400} client={["src_ip", "ja4", "host"].includes(column.name) ? client : undefined} />
      ) : (
        <Raw value={plain(value)} max={400} expandable />
      )}
      {column.flags.length > 0 && <span className="ml-2 text-muted">{column.flags.join(", ")}</span>}
    </span>
  );
}
