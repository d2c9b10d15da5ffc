// A modal dialog on the browser's own element: focus is held and given back, Escape closes, the page behind is inert.
import { useEffect, useId, useRef, type ReactNode } from "react";
import { Icon } from "./Icon";

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
  footer?: ReactNode;
  wide?: boolean;
}

export function Dialog({ title, onClose, children, footer, wide = false }: Props) {
  const ref = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal();
    // The browser gives the focus to the first control; a dialog that is there to be written in names its own.
    dialog?.querySelector<HTMLElement>("[data-autofocus]")?.focus();
    return () => dialog?.close();
  }, []);
  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions, jsx-a11y/click-events-have-key-events -- Escape is the key for it
    <dialog
      ref={ref}
      aria-labelledby={titleId}
      className={`m-auto max-h-[88dvh] w-[calc(100vw-3rem)] rounded-xl border border-line-strong bg-surface p-0 shadow-2xl ${wide ? "max-w-4xl" : "max-w-xl"}`}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === ref.current) onClose();
      }}
    >
      <div className="flex max-h-[88dvh] flex-col">
        <header className="flex items-center gap-3 border-b border-line px-4 py-2.5">
          <h2 id={titleId} className="flex-1 text-base font-semibold">
            {title}
          </h2>
          <button type="button" className="btn btn-quiet btn-sm" onClick={onClose}>
            <Icon name="close" />
            Close
          </button>
        </header>
        <div className="overflow-auto p-4">{children}</div>
        {footer && <footer className="flex flex-wrap items-center justify-end gap-2 border-t border-line px-4 py-2.5">{footer}</footer>}
      </div>
    </dialog>
  );
}
