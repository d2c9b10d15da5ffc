// A popover on the browser's own: top layer, Escape and a press outside close it, focus goes in and comes back.
import { useCallback, useId, useRef, useState, type ReactNode } from "react";

interface Props {
  /** What the button shows. */
  trigger: ReactNode;
  /** Name of the button where what it shows is not enough. */
  name?: string;
  triggerClass: string;
  /** Name of what opens. */
  label: string;
  /** Which side of the button it lines up with. */
  align?: "start" | "end";
  className?: string;
  triggerData?: Record<`data-${string}`, string>;
  children: (close: () => void) => ReactNode;
}

const GAP_PX = 4;
const EDGE_PX = 8;

/** Places `pop` below `anchor`, or above it where there is no room, and never beyond the edge of the window. */
function place(pop: HTMLElement, anchor: HTMLElement, align: "start" | "end"): void {
  const at = anchor.getBoundingClientRect();
  const { width, height } = pop.getBoundingClientRect();
  const left = align === "start" ? at.left : at.right - width;
  const below = at.bottom + GAP_PX;
  const top = below + height > innerHeight - EDGE_PX ? Math.max(EDGE_PX, at.top - GAP_PX - height) : below;
  pop.style.left = `${Math.max(EDGE_PX, Math.min(left, innerWidth - width - EDGE_PX))}px`;
  pop.style.top = `${top}px`;
}

export function Pop({ trigger, name, triggerClass, label, align = "start", className = "", triggerData, children }: Props) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const pop = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  const close = useCallback(() => document.getElementById(id)?.hidePopover(), [id]);
  return (
    <>
      <button ref={button} type="button" className={triggerClass} popoverTarget={id} aria-haspopup="dialog" aria-expanded={open} aria-label={name} {...triggerData}>
        {trigger}
      </button>
      <div
        ref={pop}
        id={id}
        popover="auto"
        role="dialog"
        aria-label={label}
        tabIndex={-1}
        className={`menu fixed m-0 ${className}`}
        onToggle={(event) => {
          const shown = event.newState === "open";
          setOpen(shown);
          if (!shown) return;
          // What is inside is drawn only now; it is measured and given the focus once it is there.
          requestAnimationFrame(() => {
            if (!pop.current || !button.current) return;
            place(pop.current, button.current, align);
            const first = pop.current.querySelector<HTMLElement>("[aria-pressed=true], button, input, select, a[href]");
            (first ?? pop.current).focus({ preventScroll: true });
          });
        }}
      >
        {open && children(close)}
      </div>
    </>
  );
}
