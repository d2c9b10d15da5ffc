// The list of clients: one row is one client with all its models, its reasons in the row. Virtual, walked with j and k.
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef } from "react";
import type { ClientRow } from "../api/types";
import { bits, count, plural, value } from "../lib/format";
import { useNow } from "../lib/now";
import { usePrefs } from "../lib/prefs";
import { ago, stamp } from "../lib/time";
import { Icon } from "./Icon";
import { Raw } from "./Raw";
import { VoiceBar } from "./Reasons";
import { Value } from "./ValueMenu";
import { LabelChip, RecordedChip, VerdictChip, VoiceTag } from "./Verdict";

const ROW_PX = 90;
/** Evidence at which the bar of a row is full; more is seen in the number. */
const BAR_FULL_BITS = 40;

interface Props {
  rows: readonly ClientRow[];
  selected: string | undefined;
  onSelect: (row: ClientRow) => void;
  onOpen: (row: ClientRow) => void;
  checked?: ReadonlySet<string>;
  onCheck?: (row: ClientRow) => void;
  /** Called when the end comes into sight. */
  onEnd?: () => void;
  label: string;
}

export function ClientList({ rows, selected, onSelect, onOpen, checked, onCheck, onEnd, label }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  // oxlint-disable-next-line react/incompatible-library
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => scroller.current, estimateSize: () => ROW_PX, overscan: 6, getItemKey: (i) => rows[i]?.entity_id ?? i });
  const at = rows.findIndex((row) => row.entity_id === selected);
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;

  useEffect(() => {
    if (at >= 0) virtual.scrollToIndex(at, { align: "auto" });
  }, [at, virtual]);
  useEffect(() => {
    if (onEnd && rows.length > 0 && last >= rows.length - 5) onEnd();
  }, [last, rows.length, onEnd]);

  return (
    <div
      ref={scroller}
      role="grid"
      aria-label={label}
      aria-rowcount={rows.length}
      aria-multiselectable={onCheck ? true : undefined}
      aria-activedescendant={at >= 0 ? `client-${selected}` : undefined}
      tabIndex={0}
      data-client-list
      className="@container h-full overflow-auto -outline-offset-2"
      onKeyDown={(event) => {
        if (event.target !== event.currentTarget) return;
        const row = rows[at];
        if (event.key === "Enter" && row) {
          event.preventDefault();
          onOpen(row);
        }
      }}
    >
      <div role="rowgroup" className="relative" style={{ height: virtual.getTotalSize() }}>
        {items.map((item) => {
          const row = rows[item.index];
          if (!row) return null;
          return (
            <Row
              key={item.key}
              row={row}
              index={item.index}
              top={item.start}
              active={row.entity_id === selected}
              checked={checked?.has(row.entity_id) ?? false}
              onSelect={onSelect}
              onOpen={onOpen}
              onCheck={onCheck}
            />
          );
        })}
      </div>
    </div>
  );
}

interface RowProps extends Pick<Props, "onSelect" | "onOpen" | "onCheck"> {
  row: ClientRow;
  index: number;
  top: number;
  active: boolean;
  checked: boolean;
}

function Row({ row, index, top, active, checked, onSelect, onOpen, onCheck }: RowProps) {
  const now = useNow();
  const { zone } = usePrefs();
  const client = { src_ip: row.src_ip, ja4: row.ja4, host: row.host };
  const tab = active ? 0 : -1;
  const [first, second] = row.reasons;
  const rest = row.reasons.length - 2;
  return (
    // oxlint-disable-next-line jsx-a11y/click-events-have-key-events -- the list has the keys: j, k, Enter, x
    <div
      role="row"
      id={`client-${row.entity_id}`}
      aria-rowindex={index + 1}
      aria-selected={active || checked}
      data-entity={row.entity_id}
      data-verdict={row.verdict}
      className={`absolute left-0 flex w-full items-stretch gap-3 overflow-hidden border-b border-line px-3 py-2 ${active ? "bg-accent-soft shadow-[inset_3px_0_0_var(--accent)]" : checked ? "bg-raised" : "bg-surface hover:bg-raised"}`}
      style={{ top, height: ROW_PX }}
      onClick={() => onSelect(row)}
      onDoubleClick={() => onOpen(row)}
    >
      {onCheck && (
        <div role="gridcell" className="flex w-6 shrink-0 justify-center">
          <label className="grid size-6 place-items-center">
            <span className="sr-only">
              Select <Raw value={row.src_ip} />
            </span>
            <input type="checkbox" tabIndex={tab} className="size-4 accent-accent" checked={checked} onChange={() => onCheck(row)} onClick={(event) => event.stopPropagation()} />
          </label>
        </div>
      )}
      <div role="gridcell" className="flex w-16 shrink-0 flex-col gap-1">
        {row.evidence_bits === null ? (
          <span className="text-xs text-muted">not scored</span>
        ) : (
          <>
            <span>
              <span className="num text-base leading-5 font-semibold">{bits(row.evidence_bits)}</span> <span className="text-2xs text-muted">bits</span>
            </span>
            <VoiceBar reasons={row.reasons} max={Math.max(BAR_FULL_BITS, row.evidence_bits)} />
          </>
        )}
        <span className="num text-2xs whitespace-nowrap text-muted" title={`${count(row.requests)} requests, ${count(row.errors)} of them answered 400 and above`}>
          {value(row.requests)} req
        </span>
      </div>
      <div role="gridcell" className="flex min-w-0 flex-1 flex-col justify-center @4xl:max-w-[26rem]">
        <div className="flex min-w-0 items-center gap-2">
          <Value field="src_ip" value={row.src_ip} client={client} tabIndex={tab} className="num shrink-0 font-semibold" />
          <span className="flex min-w-0 items-center gap-1 overflow-hidden">
            {row.verdict !== "normal" && row.verdict !== "unscored" && <VerdictChip verdict={row.verdict} />}
            {row.label && <LabelChip label={row.label.label} />}
            {row.recorded && <RecordedChip compact />}
          </span>
        </div>
        <div className="min-w-0 truncate text-xs leading-6 text-muted">
          {row.ua_family ? (
            <>
              says <Value field="ua_family" value={row.ua_family} tabIndex={tab} className="text-text" max={40} />
            </>
          ) : (
            "says nothing"
          )}
          , TLS of <Value field="ja4" value={row.ja4} client={client} tabIndex={tab} className="text-text">
            <Raw value={row.identity[0] ?? row.ja4} max={44} empty="nobody (no TLS)" />
          </Value>
        </div>
        <div className="min-w-0 truncate text-xs leading-6 text-muted">
          <Value field="host" value={row.host} client={client} tabIndex={tab} className="text-text" max={50} />
          {row.as_name ? (
            <>
              {" · "}
              <Raw value={row.as_name} max={30} />
            </>
          ) : null}
          {row.country ? (
            <>
              {" · "}
              <Raw value={row.country} />
            </>
          ) : null}
          {row.last_seen && (
            <span className="@4xl:hidden" title={stamp(row.last_seen, zone)}>
              {" · "}
              {ago(row.last_seen, now)}
            </span>
          )}
        </div>
      </div>
      <div role="gridcell" className="hidden min-w-0 flex-[1.4] flex-col justify-center gap-0.5 text-xs @2xl:flex">
        {first ? (
          <>
            <p className="line-clamp-2 leading-4">
              <VoiceTag voice={first.voice} /> <Raw value={first.text} max={260} />
            </p>
            {second && (
              <p className="truncate text-muted">
                <VoiceTag voice={second.voice} /> <Raw value={second.text} max={160} />
                {rest > 0 && ` +${rest} more`}
              </p>
            )}
          </>
        ) : (
          <p className="text-muted">{row.verdict === "unscored" ? "Not in the window of a cycle yet." : "Nothing stands out."}</p>
        )}
      </div>
      <div role="gridcell" className="hidden w-24 shrink-0 flex-col justify-center text-right text-xs text-muted @4xl:flex">
        {row.last_seen && <time title={stamp(row.last_seen, zone)}>{ago(row.last_seen, now)}</time>}
        <span>{plural(row.models.length, "model")}</span>
        {row.incident && (
          <span className="inline-flex items-center justify-end gap-1 text-text" title={row.incident.title}>
            <Icon name="alert" className="size-3" />
            incident
          </span>
        )}
      </div>
    </div>
  );
}
