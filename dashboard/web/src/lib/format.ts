// Numbers as people read them: groups of three with a narrow space, units always said.

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const NARROW = "\u202f";

/** 4 037 */
export function count(n: number): string {
  return Number.isFinite(n) ? whole.format(n).replaceAll(",", NARROW) : "–";
}

/** 4.0k, 12M: for axes and narrow places; the exact number belongs in a title. */
export function short(n: number): string {
  if (!Number.isFinite(n)) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (Math.abs(n) >= size) return `${(n / size).toFixed(Math.abs(n) >= 10 * size ? 0 : 1)}${unit}`;
  }
  return Number.isInteger(n) ? String(n) : n.toPrecision(2);
}

/** A value of a feature: whole numbers whole, small ones with three digits. */
export function value(n: number | null | undefined): string {
  if (n === null || n === undefined || !Number.isFinite(n)) return "–";
  if (n !== 0 && (Math.abs(n) >= 1e9 || Math.abs(n) < 1e-4)) return n.toExponential(2);
  if (Number.isInteger(n) || Math.abs(n) >= 1000) return count(n);
  return String(Number(n.toPrecision(3)));
}

/** Evidence in bits, one decimal. */
export function bits(n: number): string {
  return Number.isFinite(n) ? n.toFixed(1) : "–";
}

/** A share of one as per cent; never rounds something to 0 or to 100. */
export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined || !Number.isFinite(share)) return "–";
  const p = share * 100;
  if (p > 0 && p < 0.1) return "<0.1 %";
  if (p < 100 && p > 99.9) return ">99.9 %";
  return `${p >= 10 || Number.isInteger(p) ? Math.round(p) : p.toFixed(1)} %`;
}

/** A rank among others, 0 to 100, in words. */
export function percentile(p: number | null | undefined): string {
  if (p === null || p === undefined || !Number.isFinite(p)) return "";
  if (p >= 99.95) return "above all others";
  if (p <= 0.05) return "below all others";
  return p >= 50 ? `above ${trim(p)} % of them` : `below ${trim(100 - p)} % of them`;
}

function trim(p: number): string {
  return p > 99 ? p.toFixed(1).replace(/\.0$/, "") : String(Math.floor(p));
}

/** Bytes with a binary unit. */
export function bytes(n: number): string {
  if (!Number.isFinite(n)) return "–";
  let size = n;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1024) return `${size < 10 && unit !== "B" ? size.toFixed(1) : Math.round(size)} ${unit}`;
    size /= 1024;
  }
  return `${size.toFixed(1)} TiB`;
}

/** `1 client`, `2 clients`. */
export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** An IPv4 address that is written as an IPv6 one, the short way. */
export function ip(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");
}
