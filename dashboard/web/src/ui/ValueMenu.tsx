// On every value: include, exclude, only, group by, open, copy. A value is a button; one menu serves them all.
import { lazy, Suspense, useSyncExternalStore, type ReactNode } from "react";
import { ip } from "../lib/format";
import { visible } from "../lib/raw";
import { Raw } from "./Raw";

/** A value of a field of the filter language. `client` names the whole client, where the value is part of one. */
export interface Subject {
  field: string;
  value: string;
  client?: { src_ip: string; ja4: string; host: string };
  /** The page of all that share the value, where it is not named by field and value. */
  group?: { kind: string; value: string };
}

export interface Open {
  subject: Subject;
  rect: DOMRect;
  origin: HTMLElement;
}

let open: Open | null = null;
const listeners = new Set<() => void>();

function publish(next: Open | null): void {
  open = next;
  for (const listener of listeners) listener();
}

/** Opens the menu of a value below `origin`, which gets the focus back. */
export function openValueMenu(subject: Subject, origin: HTMLElement): void {
  publish({ subject, rect: origin.getBoundingClientRect(), origin });
}

const NAMES: Readonly<Record<string, string>> = {
  src_ip: "address",
  src_prefix: "network prefix",
  prefix: "network prefix",
  ja4: "JA4",
  host: "host",
  header_order: "header order",
  user_agent: "User-Agent",
};

/** What a field is called in a sentence. */
export function fieldName(field: string): string {
  return NAMES[field] ?? field.replaceAll("_", " ");
}

/** The network of an address: /24 of IPv4, /64 of IPv6; null for what is no address. */
export function prefixOf(address: string): string | null {
  const short = ip(address);
  const v4 = /^(\d+\.\d+\.\d+)\.\d+$/.exec(short);
  if (v4?.[1]) return `${v4[1]}.0/24`;
  if (!/^[0-9a-f:]+$/i.test(short) || !short.includes(":")) return null;
  const [head = "", tail] = short.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const full = tail === undefined ? left : [...left, ...Array.from({ length: 8 - left.length - right.length }, () => "0"), ...right];
  const groups = full.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  while (groups.length > 0 && groups.at(-1) === "0") groups.pop();
  return `${groups.join(":")}::/64`;
}

interface ValueProps extends Subject {
  children?: ReactNode;
  className?: string;
  max?: number;
  /** What the value stands for; shown in its place, with the value in the title. */
  name?: string | null;
  /** -1 inside a row of a list that is walked with the arrow keys. */
  tabIndex?: number;
}

/** A value as a button that opens its menu. */
export function Value({ field, value, client, group, children, className = "", max = 80, name, tabIndex }: ValueProps) {
  const subject = { field, value, client, group };
  return (
    <button
      type="button"
      tabIndex={tabIndex}
      aria-haspopup="menu"
      title={name ? visible(value) : undefined}
      data-value
      className={`inline-block max-w-full min-h-6 min-w-6 rounded py-1 align-baseline leading-4 text-left hover:bg-accent-soft hover:underline decoration-dotted underline-offset-4 ${className}`}
      onClick={(event) => {
        event.stopPropagation();
        openValueMenu(subject, event.currentTarget);
      }}
      onContextMenu={(event) => {
        event.preventDefault();
        openValueMenu(subject, event.currentTarget);
      }}
    >
      <span className="sr-only">{fieldName(field)}: </span>
      {children ?? <Raw value={name || value} max={max} />}
    </button>
  );
}

const Menu = lazy(() => import("./ValueMenuContent"));

/** The one menu; lives in the shell. Its code comes with the first use. */
export function ValueMenuHost() {
  const current = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => open,
  );
  if (!current) return null;
  return (
    <Suspense fallback={null}>
      <Menu subject={current.subject} rect={current.rect} origin={current.origin} onClose={() => publish(null)} />
    </Suspense>
  );
}
