// Every value that came from traffic is shown through this. It is always text, never markup; what cannot be seen or
// reorders the line is a visible mark; its direction is isolated; a long one is cut, with the rest one press away.
import { useState } from "react";
import { count } from "../lib/format";
import { pieces, truncate } from "../lib/raw";

interface Props {
  value: string;
  /** Characters shown before "show all". */
  max?: number;
  /** Whether "show all" is offered; inside a button or a row it is not. */
  expandable?: boolean;
  className?: string;
  /** What is shown when the value is empty. */
  empty?: string;
}

/** Longest text that is ever put on the page at once: a header of 64 KiB with some room. */
const SHOW_ALL_MAX = 100_000;

export function Raw({ value, max = 160, expandable = false, className = "", empty = "(empty)" }: Props) {
  const [all, setAll] = useState(false);
  if (value === "") return <span className={`text-muted italic ${className}`}>{empty}</span>;
  const { head, cut } = truncate(value, all ? SHOW_ALL_MAX : max);
  return (
    <span className={className}>
      <bdi dir="ltr" className="wrap-anywhere">
        {pieces(head).map((piece, i) =>
          piece.kind === "text" ? (
            piece.text
          ) : (
            // The order of pieces of one value never changes.
            // oxlint-disable-next-line react/no-array-index-key
            <span key={i} className="mark" title={piece.name}>
              {piece.text}
            </span>
          ),
        )}
        {cut > 0 && "…"}
      </bdi>
      {expandable && (cut > 0 || all) && (
        <button type="button" className="link ml-1 min-h-6 text-xs" onClick={() => setAll(!all)}>
          {all ? "show less" : `show all ${count(value.length)} characters`}
        </button>
      )}
    </span>
  );
}
